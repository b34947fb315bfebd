package netsetup

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mdlayher/netlink"
	vishvananda "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
)

// genModeNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
const genModeNone = 1

// crossing moves holdings from one link to another.
type crossing struct {
	rtnl
	from, to Link
	held     Holdings             // of from
	before   Holdings             // of to
	label    func(address) string // an address's old label, nil if not known
	back     bool                 // from the bridge to the NIC
	was      Holdings             // of the NIC before the move, on the way back
	asks     bool                 // the kernel takes RAs on the links
	metric   uint32               // that it gives default routes by RA
	replaced bool                 // by which it replaces those with another metric
}

func (h *Host) cross(from, to Link) (*crossing, error) {
	c, err := dialRTNL()
	if err != nil {
		return nil, err
	}
	x := &crossing{rtnl: c, from: from, to: to}
	if x.held, err = readHoldings(c, from); err == nil {
		x.before, err = readHoldings(c, to)
	}
	if err != nil {
		c.Close() //nolint:errcheck // the cause counts
		return nil, err
	}
	return x, nil
}

// MoveToBridge does what the step says.
func (h *Host) MoveToBridge(s MoveToBridge) error {
	nic, bridge, err := h.pair(s)
	if err != nil {
		return err
	}
	x, err := h.cross(nic, bridge)
	if err != nil {
		return err
	}
	defer x.Close() //nolint:errcheck // nothing follows from it
	x.readRA(s.Link)
	fresh := nic.Master == 0 && x.before.empty()
	switch {
	case x.before.empty() && x.held.empty() && !s.Held.empty():
		// Another program deleted them, or the bridge and them with it.
		x.held = s.Held.aged(bootSeconds() - s.Held.Since)
	case fresh && !x.held.same(s.Held):
		return ErrChanged
	}
	// While the routes lead by the NIC, what comes in by the bridge is no forgery.
	if err := h.SetSysctl(rpFilterKey(s.Bridge), "2"); err != nil {
		return err
	}
	h.temporaries(s, false)
	join := append(x.addresses(), x.neighbours()...)
	join = append(join, x.rules()...)
	if s.GenMode != "" {
		join = append(join, setGenMode(nic, genModeNone))
	}
	if err := explain(x.send(append(join, setMaster(nic, bridge.Index)))); err != nil {
		return err
	}
	if err := failpoint.Hit("move: NIC is a port"); err != nil {
		return err
	}
	x.awaitCarrier(s.GenMode != "")
	h.temporaries(s, true)
	if err := x.moveRoutes(nil); err != nil {
		return err
	}
	x.solicit()
	return h.SetSysctl(rpFilterKey(s.Bridge), s.RPFilter)
}

// MoveBack does what the step's Undo says.
func (h *Host) MoveBack(s MoveToBridge) error {
	nic, bridge, err := h.pair(s)
	if err != nil {
		return err
	}
	x, err := h.cross(bridge, nic)
	if err != nil {
		return err
	}
	defer x.Close() //nolint:errcheck // nothing follows from it
	x.back, x.label, x.was = true, s.label, s.Held
	x.readRA(s.Link)
	ours := bridge.Index != 0 && bridge.Alias == s.Alias
	switch {
	case ours:
		// Until the NIC hears for itself, the bridge hears for it.
		h.SetSysctl(rpFilterKey(s.Bridge), "2") //nolint:errcheck // costs a packet at most
	case x.before.empty() && nic.Master == 0:
		x.held = s.Held.aged(bootSeconds() - s.Held.Since)
		x.from = Link{Index: s.Held.Index, Name: s.Link}
	default:
		return h.restoreGenMode(s)
	}
	if err := explain(x.send(slices.Concat(x.addresses(), x.neighbours(), x.rules()))); err != nil {
		return err
	}
	if err := failpoint.Hit("move back: NIC has the addresses"); err != nil {
		return err
	}
	var leave []request
	if ours && nic.Master == bridge.Index {
		leave = []request{setMaster(nic, 0)}
	}
	if err := x.moveRoutes(leave); err != nil {
		return err
	}
	x.solicit()
	if s.Steady {
		if err := x.steady(); err != nil {
			return err
		}
	}
	return h.restoreGenMode(s)
}

func (h *Host) pair(s MoveToBridge) (nic, bridge Link, err error) {
	if nic, _, err = h.Link(s.Link); err == nil {
		bridge, _, err = h.Link(s.Bridge)
	}
	return nic, bridge, err
}

// restoreGenMode lets the kernel give the NIC link-local addresses again. By
// netlink that makes none at once, which is right: the ones it had are back.
func (h *Host) restoreGenMode(s MoveToBridge) error {
	now, err := h.Sysctl(genModeKey(s.Link))
	mode, parseErr := strconv.ParseUint(s.GenMode, 10, 8)
	if err != nil || parseErr != nil || now != strconv.Itoa(genModeNone) || mode == genModeNone {
		return nil // without IPv6, or somebody else's value stands
	}
	l, ok, err := h.Link(s.Link)
	if err != nil || !ok {
		return err
	}
	c, err := dialRTNL()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	return explain(c.send([]request{setGenMode(l, byte(mode))}))
}

// carrierTime is how long awaitCarrier waits. All of a kernel's namespaces wait for
// each other in this.
const carrierTime = 5 * time.Second

// temporaries has the kernel make no temporary addresses on the bridge, or as on the
// NIC: an RA that came before IPv6 uses the bridge would make it give them up.
func (h *Host) temporaries(s MoveToBridge, on bool) {
	value, err := readSysctl("net/ipv6/conf/" + s.Link + "/use_tempaddr")
	if err != nil || s.GenMode == "" {
		return
	}
	if !on {
		value = "0"
	}
	h.SetSysctl("net/ipv6/conf/"+s.Bridge+"/use_tempaddr", value) //nolint:errcheck // a kernel without them
}

// awaitCarrier waits until the bridge sends: the kernel starts its queue when it
// has seen the port's carrier, a moment after the port joined, and then IPv6. The
// host goes on sending by the NIC meanwhile.
func (x *crossing) awaitCarrier(ipv6 bool) {
	if !x.from.Carrier {
		return // it has nothing to send to
	}
	for end := time.Now().Add(carrierTime); time.Now().Before(end); {
		l, err := vishvananda.LinkByIndex(x.to.Index)
		if err != nil || l.Attrs().OperState == vishvananda.OperUp && (!ipv6 || x.ready(x.to.Index)) {
			return
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // a millisecond at most, and its event may be late
	}
}

// setMaster equals ip link set LINK master BRIDGE, or nomaster for 0.
func setMaster(l Link, bridge int) request {
	return request{
		what: unix.RTM_SETLINK, data: appendAttr(ifinfo(l.Index), attr{unix.IFLA_MASTER, u32(uint32(bridge))}),
		words: fmt.Sprintf("set master of %q", l.Name),
	}
}

// setGenMode equals ip link set LINK addrgenmode none.
func setGenMode(l Link, mode byte) request {
	inet6 := appendAttr(nil, attr{unix.AF_INET6, appendAttr(nil, attr{unix.IFLA_INET6_ADDR_GEN_MODE, []byte{mode}})})
	return request{
		what: unix.RTM_SETLINK, data: appendAttr(ifinfo(l.Index), attr{unix.IFLA_AF_SPEC, inet6}),
		words: fmt.Sprintf("set addrgenmode of %q", l.Name),
	}
}

// addresses adds them to the other link. An IPv6 address is usable at once,
// because it is not checked for duplicates: the host has it already. A temporary
// one (RFC 8981) cannot be made as such: it goes along, for no new connections,
// where a connection uses it.
func (x *crossing) addresses() []request {
	var batch []request
	for _, a := range x.moving() {
		flags := a.flags() & settable
		if a.checked() {
			flags = flags&^unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NODAD
		}
		batch = append(batch, x.setAddress(a, flags, netlink.Create|netlink.Replace))
	}
	return batch
}

// flags gives IPv6 addresses the flags they had, when the other link is up and
// running: one of them makes the kernel add temporary addresses, which it would
// drop before.
func (x *crossing) flags() []request {
	var batch []request
	for _, a := range x.moving() {
		if a.checked() {
			batch = append(batch, x.setAddress(a, a.flags()&settable, netlink.Replace))
		}
	}
	return batch
}

func (x *crossing) setAddress(a address, flags uint32, how netlink.HeaderFlags) request {
	return request{
		what: unix.RTM_NEWADDR, flags: how, data: a.on(x.to.Index, a.labelled(x.from.Name, x.to.Name, x.label), flags).Raw,
		words: fmt.Sprintf("add address %s to %q", a.prefix(), x.to.Name),
	}
}

// moving are the addresses to add. What the NIC has still, on the way back from a
// move that was cut off, has all its flags, and stays as it is.
func (x *crossing) moving() []address {
	var list []address
	inUse := sources()
	for _, a := range x.held.addresses() {
		gone := a.temporary() || x.was.temporary(a)
		switch {
		case x.back && x.before.has(a):
		case gone && !inUse[a.local()]: // the kernel makes another
		case gone:
			list = append(list, a.lasting(lifetimes{0, a.lifetimes().valid}))
		default:
			list = append(list, a)
		}
	}
	return list
}

// neighbours spare the other link the asking, and keep what somebody set.
func (x *crossing) neighbours() []request {
	var batch []request
	for _, raw := range x.held.Neighs {
		n := neighbour{raw}
		r := request{
			what: unix.RTM_NEWNEIGH, flags: netlink.Create | netlink.Replace, data: n.on(x.to.Index).Raw,
			words: fmt.Sprintf("add neighbour to %q", x.to.Name),
		}
		if !n.set() {
			r.but = []error{errAny}
		}
		batch = append(batch, r)
	}
	return batch
}

// rules that name the link get a like one that names the other. Those of the NIC
// stay while it is a port, where they match nothing.
func (x *crossing) rules() []request {
	var batch []request
	for _, raw := range x.held.Rules {
		batch = append(batch, request{
			what: unix.RTM_NEWRULE, flags: netlink.Create | netlink.Excl, data: rule{raw}.naming(x.from.Name, x.to.Name).Raw,
			but: []error{unix.EEXIST}, words: fmt.Sprintf("add rule for %q", x.to.Name),
		})
	}
	return batch
}

// moveRoutes moves the routes and takes the addresses off the link; leave is done
// in between. The addresses get their flags first.
func (x *crossing) moveRoutes(leave []request) error {
	now, err := readHoldings(x.rtnl, x.to)
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
	return explain(x.send(batch))
}

// takeOff takes the addresses off the link, secondaries first, for they would go
// with their primary; and rules that name a bridge about to go.
func (x *crossing) takeOff() []request {
	var batch []request
	for _, a := range slices.Backward(x.held.addresses()) {
		batch = append(batch, request{
			what: unix.RTM_DELADDR, data: a.on(x.from.Index, a.text(addrKind, unix.IFA_LABEL), a.flags()&settable).Raw,
			but:   []error{unix.EADDRNOTAVAIL},
			words: fmt.Sprintf("delete address %s of %q", a.prefix(), x.from.Name),
		})
	}
	if x.from.Kind != "bridge" {
		return batch
	}
	for _, raw := range x.held.Rules {
		batch = append(batch, request{
			what: unix.RTM_DELRULE, data: rule{raw}.naming(x.from.Name, x.from.Name).Raw,
			but: []error{unix.ENOENT}, words: fmt.Sprintf("delete rule of %q", x.from.Name),
		})
	}
	return batch
}

// routes moves each route, and deletes what the kernel added with the addresses
// but was not there before. Those that RAs gave are on the other link by now.
func (x *crossing) routes(now Holdings) []request {
	var batch, last []request
	wanted := map[string]bool{}
	for _, m := range x.held.inOrder() {
		if x.byRA(m.route) {
			last = append(last, delRoute(x.from, m.route))
			continue
		}
		moved := m.over(x.from.Index, x.to.Index)
		wanted[string(moved.plain())] = true
		add := request{
			what: unix.RTM_NEWROUTE, flags: netlink.Create | netlink.Append, data: moved.Raw, but: []error{unix.EEXIST},
			words: fmt.Sprintf("add route %s to %q", m.dst(), x.to.Name),
		}
		if m.replaces() {
			add.flags = netlink.Create | netlink.Replace
			batch = append(batch, add)
			continue
		}
		if m.first {
			batch = append(batch, delRoute(x.to, moved)) // the kernel put its own last
			add.flags = netlink.Create
		}
		batch, last = append(batch, add), append(last, delRoute(x.from, m.route))
	}
	for _, r := range now.routes() {
		there := slices.ContainsFunc(x.before.routes(), r.same)
		if !wanted[string(r.plain())] && !there && !x.byRA(r) {
			last = append(last, delRoute(x.to, r))
		}
	}
	if x.from.Index == x.to.Index {
		return batch
	}
	slices.SortStableFunc(last, func(a, b request) int { return deletionRank(a) - deletionRank(b) })
	return append(batch, last...)
}

// deletionRank puts IPv6 routes to neighbours last: the kernel answers an echo
// request by the link it came in on, and has until then a route by it.
func deletionRank(r request) int {
	gone := route{r.data}
	switch {
	case gone.family() == unix.AF_INET:
		return 0
	case gone.gateway().IsValid() || gone.dst().Addr().IsLinkLocalUnicast():
		return 1
	}
	return 2
}

func delRoute(l Link, r route) request {
	return request{
		what: unix.RTM_DELROUTE, data: r.plain(), but: []error{unix.ESRCH}, words: fmt.Sprintf("delete route %s of %q", r.dst(), l.Name),
	}
}

// CarriesHost reports whether the bridge has an address of the host's.
func (h *Host) CarriesHost(bridge string) (bool, error) {
	l, ok, err := h.Link(bridge)
	if err != nil || !ok {
		return false, err
	}
	c, err := dialRTNL()
	if err != nil {
		return false, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	addrs, err := c.addrs(l.Index)
	return !Holdings{Addrs: addrs}.empty(), err
}
