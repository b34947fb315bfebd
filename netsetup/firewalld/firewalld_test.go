package firewalld

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab/fakebus"
)

// fake is a firewalld of the zones, with the links and rules in each.
type fake struct {
	mu    sync.Mutex          // guards what follows
	links map[string]string   // zone by link
	rules map[string][]string // by zone
}

// zoneOf returns the zone of a link, and how many rules the zone libvirt has.
func (f *fake) zoneOf(link string) (zone string, rules int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.links[link], len(f.rules["libvirt"])
}

// lock makes a method of the bus use the fake alone.
func (f *fake) lock(m fakebus.Method) fakebus.Method {
	return func(args []any) ([]any, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return m(args)
	}
}

const failed = "org.fedoraproject.FirewallD1.Exception"

// start puts a firewalld on the bus that answers as version 1.3 does.
func start(t *testing.T) (*fakebus.Bus, *fake) {
	t.Helper()
	bus := fakebus.Start(t)
	f := &fake{links: map[string]string{"eth0": "public"}, rules: map[string][]string{}}
	bus.Handle(busPath, busName+".getDefaultZone", fakebus.Return("public"))
	bus.Handle(busPath, zoneCall+"getActiveZones", f.lock(func([]any) ([]any, error) {
		active := map[string]map[string][]string{}
		for _, link := range slices.Sorted(maps.Keys(f.links)) {
			zone := f.links[link]
			if active[zone] == nil {
				active[zone] = map[string][]string{}
			}
			active[zone]["interfaces"] = append(active[zone]["interfaces"], link)
		}
		return []any{active}, nil
	}))
	bus.Handle(busPath, zoneCall+"getZoneOfInterface", f.lock(func(args []any) ([]any, error) { return []any{f.links[args[0].(string)]}, nil }))
	bus.Handle(busPath, zoneCall+"addInterface", f.lock(func(args []any) ([]any, error) {
		zone, link := args[0].(string), args[1].(string)
		if f.links[link] != "" {
			return nil, fakebus.Refuse(failed, "ZONE_ALREADY_SET: "+link)
		}
		f.links[link] = zone
		return []any{zone}, nil
	}))
	bus.Handle(busPath, zoneCall+"removeInterface", f.lock(func(args []any) ([]any, error) {
		delete(f.links, args[1].(string))
		return []any{args[0]}, nil
	}))
	bus.Handle(busPath, zoneCall+"addRichRule", f.lock(func(args []any) ([]any, error) {
		zone, rule := args[0].(string), args[1].(string)
		if slices.Contains(f.rules[zone], rule) {
			return nil, fakebus.Refuse(failed, "ALREADY_ENABLED: '"+rule+"' already in '"+zone+"'")
		}
		f.rules[zone] = append(f.rules[zone], rule)
		return []any{zone}, nil
	}))
	bus.Handle(busPath, zoneCall+"removeRichRule", f.lock(func(args []any) ([]any, error) {
		zone, rule := args[0].(string), args[1].(string)
		i := slices.Index(f.rules[zone], rule)
		if i < 0 {
			return nil, fakebus.Refuse(failed, "NOT_ENABLED: '"+rule+"' not in '"+zone+"'")
		}
		f.rules[zone] = slices.Delete(f.rules[zone], i, i+1)
		return []any{zone}, nil
	}))
	bus.Handle(busPath, zoneCall+"queryRichRule", f.lock(func(args []any) ([]any, error) {
		return []any{slices.Contains(f.rules[args[0].(string)], args[1].(string))}, nil
	}))
	bus.Own(busName, true)
	return bus, f
}

var zone = Zone{Name: "libvirt", Link: "qn-dev", Rules: []string{`rule priority="32767" reject`, `rule service name="dhcp" accept`}}

func TestZone(t *testing.T) {
	bus, f := start(t)
	has := func() bool {
		t.Helper()
		ok, err := Has(t.Context(), zone)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if has() {
		t.Error("the link is in the zone at first")
	}
	for range 2 { // the second call changes nothing
		if err := Add(t.Context(), zone); err != nil {
			t.Fatal(err)
		}
		if in, rules := f.zoneOf("qn-dev"); !has() || in != "libvirt" || rules != 2 {
			t.Errorf("added: in %q, %d rules", in, rules)
		}
	}
	calls := strings.Join(bus.Calls(), "\n")
	if rule, link := strings.LastIndex(calls, "addRichRule("), strings.Index(calls, "addInterface("); rule < link && strings.Index(calls, "addRichRule(") > link {
		t.Errorf("the link is in the zone before its rules:\n%s", calls)
	}
	s, err := Observe(t.Context())
	want := State{Running: true, Default: "public", Zones: map[string]string{"eth0": "public", "qn-dev": "libvirt"}}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, %v", s, err)
	}
	f.mu.Lock()
	f.rules["libvirt"] = f.rules["libvirt"][1:]
	f.mu.Unlock()
	if has() {
		t.Error("the zone has lost a rule")
	}
	for range 2 {
		if err := Remove(t.Context(), zone); err != nil {
			t.Fatal(err)
		}
		if in, rules := f.zoneOf("qn-dev"); has() || in != "" || rules != 0 {
			t.Errorf("removed: in %q, %d rules", in, rules)
		}
	}
}

// A link that the user put into another zone stays there.
func TestAnotherZone(t *testing.T) {
	_, f := start(t)
	f.links["qn-dev"] = "trusted" // before the first call
	err := Add(t.Context(), zone)
	if in, rules := f.zoneOf("qn-dev"); err != nil || in != "trusted" || rules != 0 {
		t.Errorf("add: in %q, %d rules, %v", in, rules, err)
	}
	if ok, err := Has(t.Context(), zone); err != nil || !ok {
		t.Errorf("has: %v, %v", ok, err)
	}
	err = Remove(t.Context(), zone)
	if in, _ := f.zoneOf("qn-dev"); err != nil || in != "trusted" {
		t.Errorf("remove: in %q, %v", in, err)
	}
}

func TestRefused(t *testing.T) {
	bus, _ := start(t)
	bus.Handle(busPath, zoneCall+"getZoneOfInterface", func([]any) ([]any, error) {
		return nil, fakebus.Refuse("org.freedesktop.DBus.Error.AccessDenied", "ACCESS_DENIED: lockdown is enabled")
	})
	for name, err := range map[string]error{"add": Add(t.Context(), zone), "remove": Remove(t.Context(), zone)} {
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "lockdown") || !strings.Contains(err.Error(), "qn-dev") {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	if _, err := Has(t.Context(), zone); !errors.Is(err, ErrRefused) {
		t.Errorf("has: got %v, want a refusal", err)
	}
	bus.Handle(busPath, busName+".getDefaultZone", func([]any) ([]any, error) { return nil, errors.New("INVALID_ZONE") })
	if s, err := Observe(t.Context()); !errors.Is(err, ErrRefused) || s.Running {
		t.Errorf("observe: got %+v, %v", s, err)
	}
}

// Without firewalld nothing is asked and nothing fails.
func TestNotRunning(t *testing.T) {
	nothing := func(t *testing.T) {
		t.Helper()
		if s, err := Observe(t.Context()); err != nil || s.Running || s.Zones != nil {
			t.Errorf("observe: got %+v, %v", s, err)
		}
		ok, err := Has(t.Context(), zone)
		if err := errors.Join(err, Add(t.Context(), zone), Remove(t.Context(), zone)); err != nil || !ok {
			t.Errorf("has %v, %v", ok, err)
		}
	}
	t.Run("no bus", func(t *testing.T) {
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
		nothing(t)
		if err := Watch(t.Context(), nil); err == nil {
			t.Error("watched without a bus")
		}
	})
	t.Run("not on the bus", func(t *testing.T) {
		bus, _ := start(t)
		bus.Own(busName, false)
		nothing(t)
		if calls := bus.Calls(); calls != nil {
			t.Errorf("asked %v", calls)
		}
	})
	t.Run("ends meanwhile", func(t *testing.T) {
		bus, _ := start(t)
		gone := func([]any) ([]any, error) {
			return nil, fakebus.Refuse("org.freedesktop.DBus.Error.NoReply", "Message recipient disconnected")
		}
		bus.Handle(busPath, zoneCall+"getZoneOfInterface", gone)
		bus.Handle(busPath, busName+".getDefaultZone", gone)
		nothing(t)
	})
}

func TestContextEnds(t *testing.T) {
	start(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Add(ctx, zone); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestWatch(t *testing.T) {
	bus, _ := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, ended := make(chan bool, 8), make(chan error, 1)
	go func() { ended <- Watch(ctx, func(runs bool) { changed <- runs }) }()
	expect := func(what string, want bool) {
		t.Helper()
		select {
		case runs := <-changed:
			if runs != want {
				t.Errorf("%s: runs is %v", what, runs)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no report", what)
		}
	}
	expect("at first", true)
	bus.Emit(":1.99", busPath, busName+".Reloaded")
	expect("reloaded", true)
	bus.Own(busName, false)
	expect("ended", false)
	bus.Own(busName, true)
	expect("started", true)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the context ended: got %v", err)
	}
}
