package move

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// genModeNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h): the kernel gives the link no
// link-local addresses.
const genModeNone = 1

// Kernel is what a move needs of the host besides rtnetlink.
type Kernel interface {
	Link(ctx context.Context, name string) (host.Link, bool, error)
	Sysctl(ctx context.Context, key string) (string, error)
	SetSysctl(ctx context.Context, key, value string) error
}

// ToBridge moves the host from its NIC to the bridge, as the step's Do says. It returns
// step.ErrChanged, and has changed nothing, where the NIC no longer has what the step holds.
func ToBridge(ctx context.Context, k Kernel, s step.MoveToBridge) error {
	nic, bridge, err := pair(ctx, k, s)
	if err != nil {
		return err
	}
	x, err := cross(nic, bridge)
	if err != nil {
		return err
	}
	defer x.conn.Close() //nolint:errcheck // nothing follows from it
	x.ra = readRA(s.Link)
	fresh := nic.Master == 0 && x.before.Empty()
	switch {
	case x.before.Empty() && x.held.Empty() && !s.Held.Empty():
		// Another program deleted the addresses, or the bridge with them.
		x.held = s.Held.Aged(host.BootSeconds() - s.Held.Since)
	case fresh && !x.held.Same(s.Held):
		return step.ErrChanged
	}
	if err := x.join(ctx, k, s, nic, bridge); err != nil {
		return err
	}
	if err := x.moveRoutes(nil); err != nil {
		return err
	}
	x.solicit()
	return k.SetSysctl(ctx, host.RPFilterKey(s.Bridge), s.RPFilter)
}

// join gives the bridge the addresses and makes the NIC its port. It returns when the bridge
// sends.
func (x *crossing) join(ctx context.Context, k Kernel, s step.MoveToBridge, nic, bridge host.Link) error {
	// While the routes lead by the NIC, what comes in by the bridge fails strict validation.
	if err := k.SetSysctl(ctx, host.RPFilterKey(s.Bridge), "2"); err != nil {
		return err
	}
	setTemporaries(ctx, k, s, false)
	batch := slices.Concat(x.addresses(), x.neighbors(), x.rules())
	if s.GenMode != "" {
		batch = append(batch, rtnl.SetGenMode(nic.Name, nic.Index, genModeNone))
	}
	if err := host.Explain(x.conn.Send(append(batch, rtnl.SetMaster(nic.Name, nic.Index, bridge.Index)))); err != nil {
		return err
	}
	if err := failpoint.Hit("move: NIC is a port"); err != nil {
		return err
	}
	x.awaitCarrier(ctx, s.GenMode != "")
	setTemporaries(ctx, k, s, true)
	return nil
}

// Back moves the host from the bridge back to its NIC, as the step's Undo says. Where the
// bridge is gone, the NIC gets what the step holds.
func Back(ctx context.Context, k Kernel, s step.MoveToBridge) error {
	nic, bridge, err := pair(ctx, k, s)
	if err != nil {
		return err
	}
	x, err := cross(bridge, nic)
	if err != nil {
		return err
	}
	defer x.conn.Close() //nolint:errcheck // nothing follows from it
	x.back, x.label, x.original, x.was = true, s.NICLabel, s.Held, s.Was
	x.ra = readRA(s.Link)
	ours := bridge.Index != 0 && bridge.Alias == s.Alias
	switch {
	case ours:
		// What comes in by the bridge until the NIC leaves it would fail strict validation.
		k.SetSysctl(ctx, host.RPFilterKey(s.Bridge), "2") //nolint:errcheck // costs a packet at most
	case x.before.Empty() && nic.Master == 0:
		x.held = s.Held.Aged(host.BootSeconds() - s.Held.Since)
		x.from = host.Link{Index: s.Held.Index, Name: cmp.Or(s.Was, s.Link)}
	default:
		return restoreGenMode(ctx, k, s)
	}
	var leave []rtnl.Request
	if ours && nic.Master == bridge.Index {
		leave = []rtnl.Request{rtnl.SetMaster(nic.Name, nic.Index, 0)}
	}
	if err := x.leave(ctx, leave, s.Dhcpcd); err != nil {
		return err
	}
	return restoreGenMode(ctx, k, s)
}

// leave gives the NIC the addresses, takes it out of the bridge by the requests, and moves the
// routes. If steady is set, it repairs what a DHCP client takes away then.
func (x *crossing) leave(ctx context.Context, requests []rtnl.Request, steady bool) error {
	if err := host.Explain(x.conn.Send(slices.Concat(x.addresses(), x.neighbors(), x.rules()))); err != nil {
		return err
	}
	if err := failpoint.Hit("move back: NIC has the addresses"); err != nil {
		return err
	}
	if err := x.moveRoutes(requests); err != nil {
		return err
	}
	x.solicit()
	if steady {
		return x.steady(ctx)
	}
	return nil
}

func pair(ctx context.Context, k Kernel, s step.MoveToBridge) (nic, bridge host.Link, err error) {
	if nic, _, err = k.Link(ctx, s.Link); err == nil {
		bridge, _, err = k.Link(ctx, s.Bridge)
	}
	return nic, bridge, err
}

// restoreGenMode lets the kernel give the NIC link-local addresses again, unless another
// program has set another mode. By netlink the kernel makes none at once, as it should: the
// NIC has the old ones.
func restoreGenMode(ctx context.Context, k Kernel, s step.MoveToBridge) error {
	now, err := k.Sysctl(ctx, host.GenModeKey(s.Link))
	mode, parseErr := strconv.ParseUint(s.GenMode, 10, 8)
	if err != nil || parseErr != nil || now != strconv.Itoa(genModeNone) || mode == genModeNone {
		return nil //nolint:nilerr // without IPv6 there is no key, and nothing to restore
	}
	l, ok, err := k.Link(ctx, s.Link)
	if err != nil || !ok {
		return err
	}
	return host.Explain(rtnl.Send(rtnl.SetGenMode(l.Name, l.Index, byte(mode))))
}

// setTemporaries lets the kernel make temporary addresses on the bridge as on the NIC, or
// none. It must make none before IPv6 uses the bridge: after some tries it would give up.
func setTemporaries(ctx context.Context, k Kernel, s step.MoveToBridge, on bool) {
	value, err := k.Sysctl(ctx, "net/ipv6/conf/"+s.Link+"/use_tempaddr")
	if err != nil || s.GenMode == "" {
		return
	}
	if !on {
		value = "0"
	}
	k.SetSysctl(ctx, "net/ipv6/conf/"+s.Bridge+"/use_tempaddr", value) //nolint:errcheck // some kernels have no temporary addresses
}

// moveRoutes moves the routes and then deletes the addresses of the old link, with the leave
// requests in between. The addresses of the new link get their flags first.
func (x *crossing) moveRoutes(leave []rtnl.Request) error {
	now, err := host.ReadHoldings(x.conn, x.to)
	if err != nil {
		return err
	}
	for _, m := range x.advertised() {
		if err := addRoute6(m); err != nil {
			return fmt.Errorf("add route %s by RA to %q: %w", m.prefix(), x.to.Name, err)
		}
	}
	batch := append(x.flags(), x.routes(now)...)
	if x.from.Index != x.to.Index {
		batch = slices.Concat(batch, leave, x.removal())
	}
	return host.Explain(x.conn.Send(batch))
}
