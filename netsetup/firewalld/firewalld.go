// Package firewalld puts bridges into zones of firewalld over D-Bus, as
// firewall-cmd(1) without --permanent does: nothing is written to firewalld's
// files, and a reload or restart of it forgets all of this, which Watch tells.
//
// Where firewalld does not run in the caller's network namespace, Look tells that,
// and the rest does nothing: it is never started. Functions may be called concurrently; each takes its own
// connection, and calls of one process are served in their order.
package firewalld

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/netsetup/managers"
)

// firewalld.dbus(5).
const (
	busItself = "org.freedesktop.DBus"

	busName  = "org.fedoraproject.FirewallD1"
	busPath  = "/org/fedoraproject/FirewallD1"
	zoneCall = busName + ".zone."
)

// ErrRefused tells that firewalld answered, and will not do it, as when it is
// locked down.
var ErrRefused = errors.New("firewalld refuses")

// callTimeout bounds a conversation. A firewalld that just starts answers late.
const callTimeout = 3 * time.Second

// Zone is what is asked of firewalld for one link.
type Zone struct {
	Name  string   `json:"name"` // "trusted"
	Link  string   `json:"link"`
	Rules []string `json:"rules,omitempty"` // of the zone, in firewalld.richlanguage(5)
}

// State is what firewalld says of itself, and a part of what decides on a Zone.
type State struct {
	Running bool              `json:"running"`
	Default string            `json:"default,omitempty"` // the zone of links that are in none
	Zones   map[string]string `json:"zones,omitempty"`   // by link
}

// Look reads the state. It returns the zero State where firewalld or the system
// bus does not run.
func Look() (State, error) {
	var s State
	err := with(func(call caller) error {
		var active map[string]map[string][]string
		if err := call(busName+".getDefaultZone", &s.Default); err != nil {
			return err
		}
		if err := call(zoneCall+"getActiveZones", &active); err != nil {
			return err
		}
		s.Running, s.Zones = true, map[string]string{}
		for zone, what := range active {
			for _, link := range what["interfaces"] {
				s.Zones[link] = zone
			}
		}
		return nil
	})
	if err != nil {
		return State{}, fmt.Errorf("ask firewalld: %w", err)
	}
	return s, nil
}

// Add puts the link into the zone, after the rules, so that no moment is without
// them. A link that is in another zone already is left there.
//
//	firewall-cmd --zone=ZONE --add-rich-rule=RULE; firewall-cmd --zone=ZONE --add-interface=LINK
func Add(z Zone) error {
	err := with(func(call caller) error {
		zone := ""
		if err := call(zoneCall+"getZoneOfInterface", &zone, z.Link); err != nil {
			return err
		}
		if zone != "" && zone != z.Name {
			return nil
		}
		for _, r := range z.Rules {
			if err := call(zoneCall+"addRichRule", nil, z.Name, r, int32(0)); unless(err, "ALREADY_ENABLED") != nil {
				return err
			}
		}
		return unless(call(zoneCall+"addInterface", nil, z.Name, z.Link), "ALREADY_ENABLED", "ZONE_ALREADY_SET")
	})
	if err != nil {
		return fmt.Errorf("put %s into zone %q of firewalld: %w", z.Link, z.Name, err)
	}
	return nil
}

// Remove takes the link, if there is one, and the rules out of the zone, if they
// are in it.
//
//	firewall-cmd --zone=ZONE --remove-interface=LINK; firewall-cmd --zone=ZONE --remove-rich-rule=RULE
func Remove(z Zone) error {
	err := with(func(call caller) error {
		var errs []error
		if z.Link != "" {
			zone := ""
			if err := call(zoneCall+"getZoneOfInterface", &zone, z.Link); err != nil {
				return err
			}
			if zone == z.Name {
				errs = append(errs, unless(call(zoneCall+"removeInterface", nil, z.Name, z.Link), "UNKNOWN_INTERFACE"))
			}
		}
		for _, r := range z.Rules {
			errs = append(errs, unless(call(zoneCall+"removeRichRule", nil, z.Name, r), "NOT_ENABLED", "INVALID_ZONE"))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("take %s out of zone %q of firewalld: %w", z.Link, z.Name, err)
	}
	return nil
}

// Has reports whether the link is in the zone and the zone has the rules, or the
// link is in another by someone else's will. It holds where firewalld does not run.
//
//	firewall-cmd --get-zone-of-interface=LINK; firewall-cmd --zone=ZONE --query-rich-rule=RULE
func Has(z Zone) (bool, error) {
	has := true
	err := with(func(call caller) error {
		zone := ""
		if err := call(zoneCall+"getZoneOfInterface", &zone, z.Link); err != nil {
			return err
		}
		if has = zone != ""; zone != z.Name {
			return nil
		}
		for _, r := range z.Rules {
			there := false
			if err := call(zoneCall+"queryRichRule", &there, z.Name, r); err != nil {
				return err
			}
			has = has && there
		}
		return nil
	})
	return has, err
}

// Watch calls changed once it hears firewalld, and whenever that started, ended,
// reloaded or changed a zone, until the context ends: runs tells whether it does.
// It returns nil then, and the error where the bus is lost.
func Watch(ctx context.Context, changed func(runs bool)) error {
	bus, err := managers.SystemBus(ctx)
	if err != nil {
		return fmt.Errorf("watch firewalld: %w", err)
	}
	defer bus.Close() //nolint:errcheck // nothing is said any more
	signals := make(chan *dbus.Signal, 64)
	bus.Signal(signals)
	for _, what := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(busItself), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, busName)},
		{dbus.WithMatchSender(busName), dbus.WithMatchObjectPath(busPath)},
	} {
		if err := bus.AddMatchSignalContext(ctx, what...); err != nil {
			return fmt.Errorf("watch firewalld: %w", err)
		}
	}
	runs, err := running(ctx, bus)
	if err != nil {
		return fmt.Errorf("watch firewalld: %w", err)
	}
	changed(runs) // what came before is not heard
	for {
		select {
		case <-ctx.Done():
			return nil
		case s, ok := <-signals:
			if !ok {
				return errors.New("watch firewalld: the system bus hung up")
			}
			changed(!ended(s))
		}
	}
}

// ended reports whether the bus tells that firewalld is gone: its name, the old
// owner and no new one.
func ended(s *dbus.Signal) bool {
	return s.Name == busItself+".NameOwnerChanged" && len(s.Body) == 3 && s.Body[2] == ""
}

func running(ctx context.Context, bus *dbus.Conn) (runs bool, err error) {
	err = bus.BusObject().CallWithContext(ctx, busItself+".NameHasOwner", 0, busName).Store(&runs)
	return runs, err
}

// caller calls a method and stores its answer, if answer is not nil.
type caller func(method string, answer any, args ...any) error

// with has f talk to firewalld, and does nothing where that does not run.
func with(f func(caller) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	bus, err := managers.SystemBus(ctx)
	if err != nil {
		return nil // a host without a system bus has no firewalld
	}
	defer bus.Close() //nolint:errcheck // everything is answered by then
	if runs, err := running(ctx, bus); err != nil || !runs {
		return nil // nor need every bus know of it
	}
	object := bus.Object(busName, busPath)
	err = f(func(method string, answer any, args ...any) error {
		c := object.CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
		if c.Err == nil && answer != nil {
			return c.Store(answer)
		}
		return c.Err
	})
	var said dbus.Error
	switch {
	case !errors.As(err, &said):
		return err
	case said.Name == "org.freedesktop.DBus.Error.ServiceUnknown", said.Name == "org.freedesktop.DBus.Error.NoReply":
		return nil // it stopped meanwhile, and forgot everything
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// unless drops an error that says the host is as it should be already. firewalld's
// errors begin with a code.
func unless(err error, codes ...string) error {
	var said dbus.Error
	if errors.As(err, &said) {
		for _, code := range codes {
			if strings.HasPrefix(said.Error(), code) {
				return nil
			}
		}
	}
	return err
}
