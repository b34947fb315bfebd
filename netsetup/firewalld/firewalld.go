// Package firewalld puts bridges into zones of firewalld over D-Bus (firewalld.dbus(5)),
// as firewall-cmd(1) without --permanent does. It writes no files: when firewalld
// reloads or starts again, it forgets the zones, and Watch reports that.
//
// Where firewalld does not run in the caller's network namespace, Observe says so and
// Add, Remove and Has do nothing. No call starts firewalld. Each call takes at most 3 s.
// Functions may be called concurrently; each has a connection of its own, and firewalld
// serves the calls of one process in their order.
package firewalld

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/sysbus"
)

// firewalld's D-Bus interface, firewalld.dbus(5).
const (
	busName  = "org.fedoraproject.FirewallD1"
	busPath  = "/org/fedoraproject/FirewallD1"
	zoneCall = busName + ".zone."
)

// ErrRefused is wrapped by the errors that firewalld answers, as when it is locked down.
var ErrRefused = errors.New("firewalld refuses")

// callTimeout bounds the calls of one function. A firewalld that just starts answers late.
const callTimeout = 3 * time.Second

// Zone is the zone that a link shall be in, and the rules that the zone shall have.
type Zone struct {
	Name  string   `json:"name"` // "trusted"
	Link  string   `json:"link"`
	Rules []string `json:"rules,omitempty"` // of the zone, in firewalld.richlanguage(5)
}

// State is firewalld's state, as far as it decides on a Zone.
type State struct {
	Running bool              `json:"running"`
	Default string            `json:"default,omitempty"` // the zone of links without one
	Zones   map[string]string `json:"zones,omitempty"`   // by link
}

// Observe reads the state. It returns the zero State where firewalld or the system bus
// does not run.
//
//	firewall-cmd --get-default-zone; firewall-cmd --get-active-zones
func Observe(ctx context.Context) (State, error) {
	var s State
	err := with(ctx, func(call caller) error {
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

// Add gives the zone the rules, and then the link, so that the link is never in the
// zone without them. It leaves a link that is in another zone already.
//
//	firewall-cmd --zone=ZONE --add-rich-rule=RULE
//	firewall-cmd --zone=ZONE --add-interface=LINK
func Add(ctx context.Context, z Zone) error {
	err := with(ctx, func(call caller) error {
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

// Remove takes the link and the rules out of the zone, as far as they are in it. A Zone
// without Link has rules only.
//
//	firewall-cmd --zone=ZONE --remove-interface=LINK
//	firewall-cmd --zone=ZONE --remove-rich-rule=RULE
func Remove(ctx context.Context, z Zone) error {
	err := with(ctx, func(call caller) error {
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

// Has reports whether the link is in the zone and the zone has the rules. It also
// reports true if the user or another program put the link into another zone, and
// where firewalld does not run.
//
//	firewall-cmd --get-zone-of-interface=LINK; firewall-cmd --zone=ZONE --query-rich-rule=RULE
func Has(ctx context.Context, z Zone) (bool, error) {
	has := true
	err := with(ctx, func(call caller) error {
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

// Watch calls changed with whether firewalld runs: at first, and whenever firewalld
// starts, ends, reloads or changes a zone. It returns nil when ctx ends, and an error
// where the system bus is missing or hangs up.
func Watch(ctx context.Context, changed func(runs bool)) error {
	if err := sysbus.Watch(ctx, busName, changed, busPath); err != nil {
		return fmt.Errorf("watch firewalld: %w", err)
	}
	return nil
}

// caller calls a method and stores its answer, if answer is not nil.
type caller func(method string, answer any, args ...any) error

// with lets f talk to firewalld for 3 s, and does nothing where firewalld does not run.
func with(ctx context.Context, f func(caller) error) error {
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	peer, err := sysbus.Dial(within, busName)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return nil // a host without a system bus has no firewalld, and not every bus knows it
	}
	defer peer.Close()
	err = f(func(method string, answer any, args ...any) error {
		c := peer.Call(within, busPath, method, args...)
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
		return nil // it ended meanwhile, and forgot everything
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// unless drops an error that says that the host is in the wanted state already.
// firewalld's errors begin with a code.
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
