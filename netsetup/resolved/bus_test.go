package resolved

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/lab/fakebus"
)

// Properties of the loopback in systemd-resolved 252, with its shipped configuration.
func plain(bus *fakebus.Bus, path string) {
	for key, value := range map[string]any{
		"DNSEx": []server{}, "Domains": []domain{}, "DefaultRoute": false, "LLMNR": "yes", "MulticastDNS": "yes",
		"DNSOverTLS": "no", "DNSSEC": "no", "DNSSECNegativeTrustAnchors": []string{},
	} {
		bus.SetProperty(path, ofLink+"."+key, value)
	}
}

// start puts a systemd-resolved with the links 1 and 2 on the bus.
func start(t *testing.T) *fakebus.Bus {
	t.Helper()
	bus := fakebus.Start(t)
	plain(bus, "/link1")
	plain(bus, "/link2")
	bus.Handle(busPath, manager+"GetLink", func(args []any) ([]any, error) {
		switch args[0].(int32) {
		case 1:
			return []any{dbus.ObjectPath("/link1")}, nil
		case 2:
			return []any{dbus.ObjectPath("/link2")}, nil
		}
		return nil, fakebus.Refuse("org.freedesktop.resolve1.NoSuchLink", "Link not known")
	})
	for _, method := range []string{
		"SetLinkDNS", "SetLinkDNSEx", "SetLinkDomains", "SetLinkDefaultRoute", "SetLinkLLMNR", "SetLinkMulticastDNS",
		"SetLinkDNSOverTLS", "SetLinkDNSSEC", "SetLinkDNSSECNegativeTrustAnchors", "RevertLink",
	} {
		bus.Handle(busPath, manager+method, fakebus.Return())
	}
	bus.Own(busName, true)
	return bus
}

var (
	yes  = true
	some = Settings{
		Servers:      []Server{{netip.MustParseAddr("192.0.2.53"), 5353, "dns.example"}, {netip.MustParseAddr("2001:db8::53"), 0, ""}},
		Domains:      []Domain{{"lan.example", false}, {".", true}},
		DefaultRoute: &yes, LLMNR: "resolve", MulticastDNS: "no", DNSOverTLS: "opportunistic", DNSSEC: "allow-downgrade", Trust: []string{"a.example"},
	}
)

func TestTell(t *testing.T) {
	bus := start(t)
	if runs, err := Tell(t.Context(), 2, some); err != nil || !runs {
		t.Fatalf("runs %v, %v", runs, err)
	}
	if err := Revert(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"SetLinkDomains(2, [[lan.example false] [. true]])", "SetLinkDefaultRoute(2, true)", "SetLinkLLMNR(2, resolve)", "SetLinkMulticastDNS(2, no)",
		"SetLinkDNSOverTLS(2, opportunistic)", "SetLinkDNSSEC(2, allow-downgrade)", "SetLinkDNSSECNegativeTrustAnchors(2, [a.example])",
		"SetLinkDNSEx(2, [[2 [192 0 2 53] 5353 dns.example] [10 [32 1 13 184 0 0 0 0 0 0 0 0 0 0 0 83] 0 ]])", "RevertLink(2)",
	}
	got := bus.Calls()
	for i := range got {
		got[i] = strings.TrimPrefix(got[i], manager)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	method, arg := Settings{Servers: []Server{{Address: netip.MustParseAddr("192.0.2.53")}}}.serverCall()
	if method != "SetLinkDNS" || reflect.ValueOf(arg).Len() != 1 {
		t.Errorf("a plain server: %s(%v)", method, arg)
	}
}

func TestCommands(t *testing.T) {
	want := []string{
		"resolvectl dns eth0 192.0.2.53:5353#dns.example 2001:db8::53", "resolvectl domain eth0 lan.example ~.", "resolvectl default-route eth0 true",
		"resolvectl llmnr eth0 resolve", "resolvectl mdns eth0 no", "resolvectl dnsovertls eth0 opportunistic",
		"resolvectl dnssec eth0 allow-downgrade", "resolvectl nta eth0 a.example",
	}
	if got := some.Commands("eth0"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := (Settings{}).Commands("eth0"); got != nil || !(Settings{}).Empty() || some.Empty() {
		t.Errorf("no settings: %q", got)
	}
}

func TestObserve(t *testing.T) {
	bus := start(t)
	if s, err := Observe(t.Context(), 2); err != nil || !s.Empty() {
		t.Errorf("no settings: got %+v, %v", s, err)
	}
	for key, value := range map[string]any{
		"DNSEx":   []server{{2, []byte{192, 0, 2, 53}, 5353, "dns.example"}, {10, netip.MustParseAddr("2001:db8::53").AsSlice(), 0, ""}, {1, []byte{1}, 0, ""}},
		"Domains": []domain{{"lan.example", false}, {".", true}}, "DefaultRoute": true, "LLMNR": "resolve", "MulticastDNS": "no",
		"DNSOverTLS": "opportunistic", "DNSSEC": "allow-downgrade", "DNSSECNegativeTrustAnchors": []string{"a.example"},
	} {
		bus.SetProperty("/link2", ofLink+"."+key, value)
	}
	if s, err := Observe(t.Context(), 2); err != nil || !reflect.DeepEqual(s, some) {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := Observe(t.Context(), 3); err == nil || !strings.Contains(err.Error(), "Link not known") {
		t.Errorf("a link that is not known: %v", err)
	}
	bus.SetProperty("/link2", ofLink+".Domains", "no list")
	if _, err := Observe(t.Context(), 2); err == nil || !strings.Contains(err.Error(), "Domains") {
		t.Errorf("a property of another type: %v", err)
	}
}

// A link of systemd-networkd is not tried again; one that is not known yet is, until
// the context ends.
func TestTellRefused(t *testing.T) {
	bus := start(t)
	bus.Handle(busPath, manager+"SetLinkLLMNR", func([]any) ([]any, error) { return nil, fakebus.Refuse(linkBusy, "Link eth0 is managed.") })
	if runs, err := Tell(t.Context(), 2, Settings{LLMNR: "no"}); !runs || !errors.Is(err, ErrManaged) {
		t.Errorf("managed: runs %v, %v", runs, err)
	}
	var tries atomic.Int32
	bus.Handle(busPath, manager+"SetLinkDNSSEC", func([]any) ([]any, error) {
		if tries.Add(1) < 3 {
			return nil, fakebus.Refuse("org.freedesktop.resolve1.NoSuchLink", "Link not known")
		}
		return nil, nil
	})
	if runs, err := Tell(t.Context(), 2, Settings{DNSSEC: "no"}); !runs || err != nil || tries.Load() != 3 {
		t.Errorf("known at the third try: runs %v, %v, %d tries", runs, err, tries.Load())
	}
	tries.Store(-1000)
	ctx, cancel := context.WithTimeout(t.Context(), 3*retryTime)
	defer cancel()
	if runs, err := Tell(ctx, 2, Settings{DNSSEC: "no"}); !runs || err == nil {
		t.Errorf("never known: runs %v, %v", runs, err)
	}
}

func TestNotRunning(t *testing.T) {
	bus := start(t)
	bus.Own(busName, false)
	if runs, err := Tell(t.Context(), 2, some); runs || err != nil {
		t.Errorf("tell: runs %v, %v", runs, err)
	}
	if s, err := Observe(t.Context(), 2); !s.Empty() || err != nil || Runs(t.Context()) {
		t.Errorf("observe: %+v, %v", s, err)
	}
	if calls := bus.Calls(); calls != nil {
		t.Errorf("asked %v", calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Tell(ctx, 2, some); !errors.Is(err, context.Canceled) {
		t.Errorf("the context has ended: %v", err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if runs, err := Tell(t.Context(), 2, some); runs || err != nil || time.Since(began) != 0 {
			t.Errorf("without a bus: runs %v, %v after %v", runs, err, time.Since(began))
		}
	})
	if err := Watch(t.Context(), nil); err == nil {
		t.Error("watched without a bus")
	}
}

func TestWatch(t *testing.T) {
	bus := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	running, ended := make(chan struct{}, 8), make(chan error, 1)
	go func() { ended <- Watch(ctx, func() { running <- struct{}{} }) }()
	expect := func(what string) {
		t.Helper()
		select {
		case <-running:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no report", what)
		}
	}
	expect("at first")
	bus.Own(busName, false)
	bus.Own(busName, true)
	expect("started again")
	cancel()
	if err := <-ended; err != nil || len(running) != 0 {
		t.Errorf("the context ended: %v, %d reports too many", err, len(running))
	}
}
