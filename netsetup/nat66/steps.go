package nat66

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

var (
	_ = step.Register[BeRouter]()
	_ = step.Register[KeepDefault]()
)

// BeRouter makes the host say that it is a router when guests ask for its address on the bridge.
// Else they drop the default route that they have by it at the next question (RFC 4861, section
// 7.2.5). The kernel says so on a link whose sysctl forwarding is 1, and at each write of 1, for
// whichever link, drops the default routes that it has by router advertisements, but those by links
// whose accept_ra is 2 (addrconf_fixup_forwarding in net/ipv6/addrconf.c).
type BeRouter struct {
	Bridge string   `json:"bridge"`
	Hosts  []string `json:"hosts,omitempty"` // links of the host's own whose accept_ra is 1
}

// done is the bridge's sysctl whose value 0 says that Hosts have their values back. A router asks
// for no routers.
func (s BeRouter) done() string { return host.IPv6Key(s.Bridge, host.Solicitations) }

func (s BeRouter) forwarding() string { return host.IPv6Key(s.Bridge, host.Forwarding) }

// Do sets accept_ra of Hosts to 2 while it writes.
func (s BeRouter) Do(ctx context.Context, k step.Kernel) error {
	if now, err := k.Sysctl(ctx, s.forwarding()); err == nil && now == "1" {
		return k.SetSysctl(ctx, s.done(), "0")
	}
	var changed []string
	for _, l := range s.Hosts {
		key := host.IPv6Key(l, host.AcceptRA)
		if now, err := k.Sysctl(ctx, key); err != nil || now != "1" {
			continue // the link is gone, or another value stands
		}
		changed = append(changed, key)
		if err := k.SetSysctl(ctx, key, "2"); err != nil {
			return errors.Join(err, restore(ctx, k, changed))
		}
	}
	err := errors.Join(k.SetSysctl(ctx, s.forwarding(), "1"), restore(ctx, k, changed))
	if err == nil {
		err = k.SetSysctl(ctx, s.done(), "0")
	}
	return err
}

func restore(ctx context.Context, k step.Kernel, keys []string) error {
	var errs []error
	for _, key := range keys {
		if err := k.SetSysctl(ctx, key, "1"); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Undo gives Hosts back what a Do that was interrupted left them. The bridge goes.
func (s BeRouter) Undo(ctx context.Context, k step.Kernel) error {
	if now, err := k.Sysctl(ctx, s.done()); err != nil || now == "0" {
		return nil //nolint:nilerr // the bridge is gone
	}
	var left []string
	for _, l := range s.Hosts {
		if now, err := k.Sysctl(ctx, host.IPv6Key(l, host.AcceptRA)); err == nil && now == "2" {
			left = append(left, host.IPv6Key(l, host.AcceptRA))
		}
	}
	return restore(ctx, k, left)
}

// Holds reports whether the host is a router on the bridge.
func (s BeRouter) Holds(ctx context.Context, k step.Kernel) (bool, error) {
	now, err := k.Sysctl(ctx, s.forwarding())
	done, doneErr := k.Sysctl(ctx, s.done())
	if err = errors.Join(err, doneErr); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return now == "1" && done == "0", err
}

// String is the commands of Do.
func (s BeRouter) String() string {
	var lines []string
	set := func(key, value string) { lines = append(lines, fmt.Sprintf("sysctl -qw %s=%s", key, value)) }
	for _, l := range s.Hosts {
		set(host.IPv6Key(l, host.AcceptRA), "2")
	}
	set(s.forwarding(), "1")
	for _, l := range s.Hosts {
		set(host.IPv6Key(l, host.AcceptRA), "1")
	}
	set(s.done(), "0")
	return strings.Join(lines, "\n")
}

// UndoString is "": what Do leaves goes with the bridge.
func (s BeRouter) UndoString() string { return "" }

// Renamed makes BeRouter a step.Renamer.
func (s BeRouter) Renamed(name func(string) string) step.Step {
	s.Hosts = slices.Clone(s.Hosts)
	for i, l := range s.Hosts {
		s.Hosts[i] = name(l)
	}
	return s
}

// KeepDefault gives a sysctl, which the step before changed as well, its value back. So new links
// stay as they would be without the network, and another program that changes it shows.
type KeepDefault struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Do writes the value.
func (s KeepDefault) Do(ctx context.Context, k step.Kernel) error {
	return k.SetSysctl(ctx, s.Key, s.Value)
}

// Undo does nothing.
func (s KeepDefault) Undo(context.Context, step.Kernel) error { return nil }

// Holds reports true: what another program writes stands.
func (s KeepDefault) Holds(context.Context, step.Kernel) (bool, error) { return true, nil }

func (s KeepDefault) String() string { return fmt.Sprintf("sysctl -qw %s=%s", s.Key, s.Value) }

// UndoString is "".
func (s KeepDefault) UndoString() string { return "" }
