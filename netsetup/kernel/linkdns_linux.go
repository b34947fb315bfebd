package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// resolvedTimeout bounds an exchange with systemd-resolved, which may still have to learn
	// of a new link from the kernel.
	resolvedTimeout = 3 * time.Second
	// resolvedInterval is how long systemd-resolved takes to handle the kernel's messages.
	resolvedInterval = 50 * time.Millisecond
)

// withResolved calls f with the link's index. It is no error where systemd-networkd manages
// the link's DNS settings: networkd sends them to systemd-resolved itself.
func (h *Host) withResolved(ctx context.Context, link string, f func(ctx context.Context, index int) error) error {
	l, ok, err := h.Link(ctx, link)
	if err == nil && !ok {
		err = fmt.Errorf("set DNS of %q in systemd-resolved: there is no such link", link)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, resolvedTimeout)
	defer cancel()
	if err := f(ctx, l.Index); !errors.Is(err, resolved.ErrManaged) {
		return err
	}
	return nil
}

// TellResolved gives systemd-resolved, where it runs, the DNS settings of a link.
//
//	resolvectl dns LINK SERVER...; resolvectl domain LINK DOMAIN...; ...
func (h *Host) TellResolved(ctx context.Context, link string, s resolved.Settings) error {
	return h.withResolved(ctx, link, func(ctx context.Context, index int) error {
		_, err := resolved.Tell(ctx, index, s)
		return err
	})
}

// RevertResolved makes systemd-resolved forget the DNS settings of a link.
//
//	resolvectl revert LINK
func (h *Host) RevertResolved(ctx context.Context, link string) error {
	return h.withResolved(ctx, link, resolved.Revert)
}

// TellResolvedBack gives systemd-resolved for the NIC the settings that the bridge has, or
// that the NIC had where the bridge is gone. When a port leaves a bridge, the kernel sends
// RTM_DELLINK of family AF_BRIDGE. systemd-resolved, version 252 at least, then forgets the
// link's settings and addresses. So TellResolvedBack repeats the settings until
// systemd-resolved keeps them, and makes the kernel announce the addresses again. Its errors
// are warnings: a later try would not help.
func (h *Host) TellResolvedBack(ctx context.Context, s step.LinkDNS) error {
	nic, ok, err := h.Link(ctx, s.NIC)
	if err != nil || !ok {
		return err
	}
	settings := s.Settings
	if bridge, ok, err := h.Link(ctx, s.Link); err == nil && ok {
		if now := host.ReadDNS(ctx, bridge); !now.Empty() {
			settings = now
		}
	}
	err = h.withResolved(ctx, s.NIC, func(ctx context.Context, index int) error {
		runs, err := tellUntilKept(ctx, index, settings)
		if err != nil || !runs {
			return err
		}
		return announce(nic)
	})
	if err != nil {
		h.warn(fmt.Sprintf("systemd-resolved does not know the name servers of %s (%v): %s", s.NIC, err, strings.Join(settings.Commands(s.NIC), "; ")))
	}
	return nil
}

// tellUntilKept gives systemd-resolved the settings of the link with that index until it
// keeps them, or systemd-networkd does. runs is false where systemd-resolved does not run.
func tellUntilKept(ctx context.Context, link int, settings resolved.Settings) (runs bool, err error) {
	for {
		runs, err := resolved.Tell(ctx, link, settings)
		if errors.Is(err, resolved.ErrManaged) {
			return true, nil
		}
		if err != nil || !runs {
			return runs, err
		}
		select {
		case <-ctx.Done():
			return true, errors.New("it forgets them at once")
		case <-time.After(resolvedInterval):
		}
		got, err := resolved.Observe(ctx, link)
		if err != nil {
			return true, err
		}
		if slices.Equal(got.Servers, settings.Servers) && slices.Equal(got.Domains, settings.Domains) {
			return true, nil
		}
	}
}

// announce makes the kernel announce the link's addresses to its listeners, by replacing
// each one by itself. Addresses of a router advertisement are announced with the next one.
//
//	ip addr change PREFIX dev LINK ...
func announce(l host.Link) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	addrs, err := c.Addresses(l.Index)
	if err != nil {
		return err
	}
	var batch []rtnl.Request
	for _, a := range addrs {
		if a.Family() == unix.AF_INET || !a.Dynamic() {
			batch = append(batch, rtnl.ChangeAddress(l.Name, a.On(l.Index, a.Label(), a.SettableFlags())))
		}
	}
	return host.Explain(c.Send(batch))
}
