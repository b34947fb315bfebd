package move

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mdlayher/netlink"
	vishvananda "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// genModeNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
const genModeNone = 1

// Kernel is what a move needs of the host besides rtnetlink.
type Kernel interface {
	Link(ctx context.Context, name string) (host.Link, bool, error)
	Sysctl(ctx context.Context, key string) (string, error)
	SetSysctl(ctx context.Context, key, value string) error
}

// crossing moves holdings from one link to another.
type crossing struct {
	rtnl.Conn
	from, to host.Link
	held     host.Holdings             // of from
	before   host.Holdings             // of to
	label    func(rtnl.Address) string // an address's old label, nil if not known
	back     bool                      // from the bridge to the NIC
	was      host.Holdings             // of the NIC before the move, on the way back
	asks     bool                      // the kernel takes RAs on the links
	metric   uint32                    // that it gives default routes by RA
	replaced bool                      // by which it replaces those with another metric
}

func cross(from, to host.Link) (*crossing, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	x := &crossing{Conn: c, from: from, to: to}
	if x.held, err = host.ReadHoldings(c, from); err == nil {
		x.before, err = host.ReadHoldings(c, to)
	}
	if err != nil {
		c.Close() //nolint:errcheck // the cause counts
		return nil, err
	}
	return x, nil
}

// ToBridge does what the step's Do says.
func ToBridge(ctx context.Context, k Kernel, s step.MoveToBridge) error {
	nic, bridge, err := pair(ctx, k, s)
	if err != nil {
		return err
	}
	x, err := cross(nic, bridge)
	if err != nil {
		return err
	}
	defer x.Close() //nolint:errcheck // nothing follows from it
	x.readRA(s.Link)
	fresh := nic.Master == 0 && x.before.Empty()
	switch {
	case x.before.Empty() && x.held.Empty() && !s.Held.Empty():
		// Another program deleted them, or the bridge and them with it.
		x.held = s.Held.Aged(host.BootSeconds() - s.Held.Since)
	case fresh && !x.held.Same(s.Held):
		return step.ErrChanged
	}
	// While the routes lead by the NIC, what comes in by the bridge is no forgery.
	if err := k.SetSysctl(ctx, host.RPFilterKey(s.Bridge), "2"); err != nil {
		return err
	}
	temporaries(ctx, k, s, false)
	join := append(x.addresses(), x.neighbours()...)
	join = append(join, x.rules()...)
	if s.GenMode != "" {
		join = append(join, setGenMode(nic, genModeNone))
	}
	if err := host.Explain(x.Send(append(join, setMaster(nic, bridge.Index)))); err != nil {
		return err
	}
	if err := failpoint.Hit("move: NIC is a port"); err != nil {
		return err
	}
	x.awaitCarrier(ctx, s.GenMode != "")
	temporaries(ctx, k, s, true)
	if err := x.moveRoutes(nil); err != nil {
		return err
	}
	x.solicit()
	return k.SetSysctl(ctx, host.RPFilterKey(s.Bridge), s.RPFilter)
}

// Back does what the step's Undo says.
func Back(ctx context.Context, k Kernel, s step.MoveToBridge) error {
	nic, bridge, err := pair(ctx, k, s)
	if err != nil {
		return err
	}
	x, err := cross(bridge, nic)
	if err != nil {
		return err
	}
	defer x.Close() //nolint:errcheck // nothing follows from it
	x.back, x.label, x.was = true, s.NICLabel, s.Held
	x.readRA(s.Link)
	ours := bridge.Index != 0 && bridge.Alias == s.Alias
	switch {
	case ours:
		// Until the NIC hears for itself, the bridge hears for it.
		k.SetSysctl(ctx, host.RPFilterKey(s.Bridge), "2") //nolint:errcheck // costs a packet at most
	case x.before.Empty() && nic.Master == 0:
		x.held = s.Held.Aged(host.BootSeconds() - s.Held.Since)
		x.from = host.Link{Index: s.Held.Index, Name: s.Link}
	default:
		return restoreGenMode(ctx, k, s)
	}
	if err := host.Explain(x.Send(slices.Concat(x.addresses(), x.neighbours(), x.rules()))); err != nil {
		return err
	}
	if err := failpoint.Hit("move back: NIC has the addresses"); err != nil {
		return err
	}
	var leave []rtnl.Request
	if ours && nic.Master == bridge.Index {
		leave = []rtnl.Request{setMaster(nic, 0)}
	}
	if err := x.moveRoutes(leave); err != nil {
		return err
	}
	x.solicit()
	if s.Dhcpcd {
		if err := x.steady(ctx); err != nil {
			return err
		}
	}
	return restoreGenMode(ctx, k, s)
}

func pair(ctx context.Context, k Kernel, s step.MoveToBridge) (nic, bridge host.Link, err error) {
	if nic, _, err = k.Link(ctx, s.Link); err == nil {
		bridge, _, err = k.Link(ctx, s.Bridge)
	}
	return nic, bridge, err
}

// restoreGenMode lets the kernel give the NIC link-local addresses again. By
// netlink that makes none at once, which is right: the ones it had are back.
func restoreGenMode(ctx context.Context, k Kernel, s step.MoveToBridge) error {
	now, err := k.Sysctl(ctx, host.GenModeKey(s.Link))
	mode, parseErr := strconv.ParseUint(s.GenMode, 10, 8)
	if err != nil || parseErr != nil || now != strconv.Itoa(genModeNone) || mode == genModeNone {
		return nil // without IPv6, or somebody else's value stands
	}
	l, ok, err := k.Link(ctx, s.Link)
	if err != nil || !ok {
		return err
	}
	c, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	return host.Explain(c.Send([]rtnl.Request{setGenMode(l, byte(mode))}))
}

// carrierTime is how long awaitCarrier waits. All of a kernel's namespaces wait for
// each other in this.
const carrierTime = 5 * time.Second

// temporaries has the kernel make no temporary addresses on the bridge, or as on the
// NIC: an RA that came before IPv6 uses the bridge would make it give them up.
func temporaries(ctx context.Context, k Kernel, s step.MoveToBridge, on bool) {
	value, err := host.ReadSysctl("net/ipv6/conf/" + s.Link + "/use_tempaddr")
	if err != nil || s.GenMode == "" {
		return
	}
	if !on {
		value = "0"
	}
	k.SetSysctl(ctx, "net/ipv6/conf/"+s.Bridge+"/use_tempaddr", value) //nolint:errcheck // a kernel without them
}

// awaitCarrier waits until the bridge sends: the kernel starts its queue when it
// has seen the port's carrier, a moment after the port joined, and then IPv6. The
// host goes on sending by the NIC meanwhile.
func (x *crossing) awaitCarrier(ctx context.Context, ipv6 bool) {
	if !x.from.Carrier {
		return // it has nothing to send to
	}
	for end := time.Now().Add(carrierTime); time.Now().Before(end) && ctx.Err() == nil; {
		l, err := vishvananda.LinkByIndex(x.to.Index)
		if err != nil || l.Attrs().OperState == vishvananda.OperUp && (!ipv6 || x.Ready(x.to.Index)) {
			return
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // a millisecond at most, and its event may be late
	}
}

// setMaster equals ip link set LINK master BRIDGE, or nomaster for 0.
func setMaster(l host.Link, bridge int) rtnl.Request {
	return rtnl.Request{
		Type: unix.RTM_SETLINK, Data: rtnl.AppendAttr(rtnl.IfInfo(l.Index), rtnl.Attr{Kind: unix.IFLA_MASTER, Value: rtnl.U32(uint32(bridge))}),
		Words: fmt.Sprintf("set master of %q", l.Name),
	}
}

// setGenMode equals ip link set LINK addrgenmode none.
func setGenMode(l host.Link, mode byte) rtnl.Request {
	inet6 := rtnl.AppendAttr(nil, rtnl.Attr{Kind: unix.AF_INET6, Value: rtnl.AppendAttr(nil, rtnl.Attr{Kind: unix.IFLA_INET6_ADDR_GEN_MODE, Value: []byte{mode}})})
	return rtnl.Request{
		Type: unix.RTM_SETLINK, Data: rtnl.AppendAttr(rtnl.IfInfo(l.Index), rtnl.Attr{Kind: unix.IFLA_AF_SPEC, Value: inet6}),
		Words: fmt.Sprintf("set addrgenmode of %q", l.Name),
	}
}

// addresses adds them to the other link. An IPv6 address is usable at once,
// because it is not checked for duplicates: the host has it already. A temporary
// one (RFC 8981) cannot be made as such: it goes along, for no new connections,
// where a connection uses it.
func (x *crossing) addresses() []rtnl.Request {
	var batch []rtnl.Request
	for _, a := range x.moving() {
		flags := a.Flags() & rtnl.Settable
		if a.Checked() {
			flags = flags&^unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NODAD
		}
		batch = append(batch, x.setAddress(a, flags, netlink.Create|netlink.Replace))
	}
	return batch
}

// flags gives IPv6 addresses the flags they had, when the other link is up and
// running: one of them makes the kernel add temporary addresses, which it would
// drop before.
func (x *crossing) flags() []rtnl.Request {
	var batch []rtnl.Request
	for _, a := range x.moving() {
		if a.Checked() {
			batch = append(batch, x.setAddress(a, a.Flags()&rtnl.Settable, netlink.Replace))
		}
	}
	return batch
}

func (x *crossing) setAddress(a rtnl.Address, flags uint32, how netlink.HeaderFlags) rtnl.Request {
	return rtnl.Request{
		Type: unix.RTM_NEWADDR, Flags: how, Data: a.On(x.to.Index, a.Labelled(x.from.Name, x.to.Name, x.label), flags).Raw,
		Words: fmt.Sprintf("add address %s to %q", a.Prefix(), x.to.Name),
	}
}

// moving are the addresses to add. What the NIC has still, on the way back from a
// move that was cut off, has all its flags, and stays as it is.
func (x *crossing) moving() []rtnl.Address {
	var list []rtnl.Address
	inUse := sources()
	for _, a := range x.held.AddressList() {
		gone := a.Temporary() || x.was.Temporary(a)
		switch {
		case x.back && x.before.Has(a):
		case gone && !inUse[a.Local()]: // the kernel makes another
		case gone:
			list = append(list, a.Lasting(rtnl.Lifetimes{Preferred: 0, Valid: a.Lifetimes().Valid}))
		default:
			list = append(list, a)
		}
	}
	return list
}

// neighbours spare the other link the asking, and keep what somebody set.
func (x *crossing) neighbours() []rtnl.Request {
	var batch []rtnl.Request
	for _, raw := range x.held.Neighs {
		n := rtnl.Neighbor{Raw: raw}
		r := rtnl.Request{
			Type: unix.RTM_NEWNEIGH, Flags: netlink.Create | netlink.Replace, Data: n.On(x.to.Index).Raw,
			Words: fmt.Sprintf("add neighbour to %q", x.to.Name),
		}
		if !n.Set() {
			r.Except = []error{rtnl.ErrAny}
		}
		batch = append(batch, r)
	}
	return batch
}

// rules that name the link get a like one that names the other. Those of the NIC
// stay while it is a port, where they match nothing.
func (x *crossing) rules() []rtnl.Request {
	var batch []rtnl.Request
	for _, raw := range x.held.Rules {
		batch = append(batch, rtnl.Request{
			Type: unix.RTM_NEWRULE, Flags: netlink.Create | netlink.Excl, Data: rtnl.Rule{Raw: raw}.Naming(x.from.Name, x.to.Name).Raw,
			Except: []error{unix.EEXIST}, Words: fmt.Sprintf("add rule for %q", x.to.Name),
		})
	}
	return batch
}

// moveRoutes moves the routes and takes the addresses off the link; leave is done
// in between. The addresses get their flags first.
func (x *crossing) moveRoutes(leave []rtnl.Request) error {
	now, err := host.ReadHoldings(x.Conn, x.to)
	if err != nil {
		return err
	}
	if err := x.solicited(); err != nil {
		return err
	}
	batch := append(x.flags(), x.routes(now)...)
	if x.from.Index != x.to.Index {
		batch = slices.Concat(batch, leave, x.takeOff())
	}
	return host.Explain(x.Send(batch))
}

// takeOff takes the addresses off the link, secondaries first, for they would go
// with their primary; and rules that name a bridge about to go.
func (x *crossing) takeOff() []rtnl.Request {
	var batch []rtnl.Request
	for _, a := range slices.Backward(x.held.AddressList()) {
		batch = append(batch, rtnl.Request{
			Type: unix.RTM_DELADDR, Data: a.On(x.from.Index, a.Text(rtnl.AddrKind, unix.IFA_LABEL), a.Flags()&rtnl.Settable).Raw,
			Except: []error{unix.EADDRNOTAVAIL},
			Words:  fmt.Sprintf("delete address %s of %q", a.Prefix(), x.from.Name),
		})
	}
	if x.from.Kind != "bridge" {
		return batch
	}
	for _, raw := range x.held.Rules {
		batch = append(batch, rtnl.Request{
			Type: unix.RTM_DELRULE, Data: rtnl.Rule{Raw: raw}.Naming(x.from.Name, x.from.Name).Raw,
			Except: []error{unix.ENOENT}, Words: fmt.Sprintf("delete rule of %q", x.from.Name),
		})
	}
	return batch
}

// routes moves each route, and deletes what the kernel added with the addresses
// but was not there before. Those that RAs gave are on the other link by now.
func (x *crossing) routes(now host.Holdings) []rtnl.Request {
	var batch, last []rtnl.Request
	wanted := map[string]bool{}
	for _, m := range x.held.InOrder() {
		if x.byRA(m.Route) {
			last = append(last, rtnl.DelRoute(x.from.Name, m.Route))
			continue
		}
		moved := m.Over(x.from.Index, x.to.Index)
		wanted[string(moved.Plain())] = true
		add := rtnl.Request{
			Type: unix.RTM_NEWROUTE, Flags: netlink.Create | netlink.Append, Data: moved.Raw, Except: []error{unix.EEXIST},
			Words: fmt.Sprintf("add route %s to %q", m.Dst(), x.to.Name),
		}
		if m.Replaces() {
			add.Flags = netlink.Create | netlink.Replace
			batch = append(batch, add)
			continue
		}
		if m.First {
			batch = append(batch, rtnl.DelRoute(x.to.Name, moved)) // the kernel put its own last
			add.Flags = netlink.Create
		}
		batch, last = append(batch, add), append(last, rtnl.DelRoute(x.from.Name, m.Route))
	}
	for _, r := range now.RouteList() {
		there := slices.ContainsFunc(x.before.RouteList(), r.Same)
		if !wanted[string(r.Plain())] && !there && !x.byRA(r) {
			last = append(last, rtnl.DelRoute(x.to.Name, r))
		}
	}
	if x.from.Index == x.to.Index {
		return batch
	}
	slices.SortStableFunc(last, func(a, b rtnl.Request) int { return deletionRank(a) - deletionRank(b) })
	return append(batch, last...)
}

// deletionRank puts IPv6 routes to neighbours last: the kernel answers an echo
// request by the link it came in on, and has until then a route by it.
func deletionRank(r rtnl.Request) int {
	gone := rtnl.Route{Raw: r.Data}
	switch {
	case gone.Family() == unix.AF_INET:
		return 0
	case gone.Gateway().IsValid() || gone.Dst().Addr().IsLinkLocalUnicast():
		return 1
	}
	return 2
}
