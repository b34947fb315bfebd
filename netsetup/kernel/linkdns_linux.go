package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// resolvedTimeout bounds a conversation with systemd-resolved. It hears of a new
	// link within moments.
	resolvedTimeout = 3 * time.Second
	// resolvedSettles is how long it takes to work off what the kernel told it.
	resolvedSettles = 50 * time.Millisecond
)

func (h *Host) withResolved(ctx context.Context, link string, f func(ctx context.Context, index int) error) error {
	l, ok, err := h.Link(ctx, link)
	if err == nil && !ok {
		err = fmt.Errorf("tell systemd-resolved of %q: there is no such link", link)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, resolvedTimeout)
	defer cancel()
	if err := f(ctx, l.Index); !errors.Is(err, resolved.ErrManaged) {
		return err
	}
	return nil // systemd-networkd's, which tells it
}

// TellResolved tells systemd-resolved of a link, where it runs.
//
//	resolvectl dns LINK SERVER...; resolvectl domain LINK DOMAIN...; ...
func (h *Host) TellResolved(ctx context.Context, link string, s resolved.Settings) error {
	return h.withResolved(ctx, link, func(ctx context.Context, index int) error {
		_, err := resolved.Tell(ctx, index, s)
		return err
	})
}

// RevertResolved has it forget what it was told of a link.
//
//	resolvectl revert LINK
func (h *Host) RevertResolved(ctx context.Context, link string) error {
	return h.withResolved(ctx, link, resolved.Revert)
}

// TellResolvedBack tells it of the NIC what it knows of the bridge, or what it knew
// of the NIC where the bridge is gone. Version 252, at least, takes the kernel's
// word that a port left a bridge (RTM_DELLINK, family AF_BRIDGE) for the end of the
// link, and forgets what it was told of it, and its addresses: so it is told until
// that has passed, and the kernel tells the addresses once more.
func (h *Host) TellResolvedBack(ctx context.Context, s step.LinkDNS) error {
	nic, ok, err := h.Link(ctx, s.NIC)
	if err != nil || !ok {
		return err
	}
	settings := s.Settings
	if bridge, ok, err := h.Link(ctx, s.Link); err == nil && ok {
		if now := host.ObserveDNS(ctx, bridge); !now.Empty() {
			settings = now
		}
	}
	err = h.withResolved(ctx, s.NIC, func(ctx context.Context, index int) error {
		for {
			runs, err := resolved.Tell(ctx, index, settings)
			if errors.Is(err, resolved.ErrManaged) {
				return announce(nic)
			}
			if err != nil || !runs {
				return err
			}
			select {
			case <-ctx.Done():
				return errors.New("it forgets what it is told")
			case <-time.After(resolvedSettles):
			}
			got, err := resolved.Observe(ctx, index)
			if err != nil {
				return err
			}
			if slices.Equal(got.Servers, settings.Servers) && slices.Equal(got.Domains, settings.Domains) {
				return announce(nic)
			}
		}
	})
	if err != nil { // nothing that could be tried again later
		h.warn(fmt.Sprintf("systemd-resolved does not know the name servers of %s (%v): %s", s.NIC, err, strings.Join(settings.Commands(s.NIC), "; ")))
	}
	return nil
}

// announce has the kernel tell everybody of the link's addresses, by replacing each
// by itself. Those of a router advertisement are told with the next one.
//
//	ip addr replace PREFIX dev LINK ...
func announce(l host.Link) error {
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	raws, err := c.Addrs(l.Index)
	if err != nil {
		return err
	}
	var batch []rtnl.Request
	for _, raw := range raws {
		a := rtnl.Address{Raw: raw}
		if a.Family() == unix.AF_INET || !a.Dynamic() {
			same := a.On(l.Index, a.Text(rtnl.AddrKind, unix.IFA_LABEL), a.Flags()&rtnl.Settable)
			batch = append(batch, rtnl.Request{
				Type: unix.RTM_NEWADDR, Flags: netlink.Replace, Data: same.Raw, Words: fmt.Sprintf("announce address %s", a.Prefix()),
			})
		}
	}
	return host.Explain(c.Send(batch))
}
