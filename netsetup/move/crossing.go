package move

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// crossing moves holdings from one link to another. Its methods that return requests are
// pure.
type crossing struct {
	conn     *rtnl.Conn
	from, to host.Link
	held     host.Holdings             // of from
	before   host.Holdings             // of to, before the move
	label    func(rtnl.Address) string // returns an address's old label; nil if not known
	back     bool                      // from the bridge to the NIC
	was      string                    // the NIC's name in original, if another program renamed it since; on the way back
	original host.Holdings             // of the NIC before it joined the bridge; on the way back
	ra       raSettings
	inUse    map[netip.Addr]bool // IPv6 addresses from which sockets are connected
}

// cross reads what a move between two links needs. The caller closes the connection.
func cross(from, to host.Link) (*crossing, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	x := &crossing{conn: c, from: from, to: to, inUse: connected()}
	if x.held, err = host.ReadHoldings(c, from); err == nil {
		x.before, err = host.ReadHoldings(c, to)
	}
	if err != nil {
		c.Close() //nolint:errcheck // the cause counts
		return nil, err
	}
	return x, nil
}

// addresses adds the addresses to the other link, usable at once: duplicate address
// detection is done on the first link.
//
//	ip addr replace ADDRESS nodad dev LINK
func (x *crossing) addresses() []rtnl.Request {
	var batch []rtnl.Request
	for _, a := range x.moving() {
		batch = append(batch, rtnl.AddAddress(x.to.Name, x.moved(a, a.UsableFlags())))
	}
	return batch
}

// flags gives IPv6 addresses the flags that they had. Only when the other link is up and
// running may it get mngtmpaddr: the kernel would drop the temporary addresses that it adds
// before.
//
//	ip addr change ADDRESS mngtmpaddr dev LINK
func (x *crossing) flags() []rtnl.Request {
	var batch []rtnl.Request
	for _, a := range x.moving() {
		if a.PassedDAD() {
			batch = append(batch, rtnl.ChangeAddress(x.to.Name, x.moved(a, a.SettableFlags())))
		}
	}
	return batch
}

func (x *crossing) moved(a rtnl.Address, flags uint32) rtnl.Address {
	return a.On(x.to.Index, a.LabelOn(x.from.Name, x.to.Name, x.label), flags)
}

// moving returns the addresses to add. After a way back that was cut off, the NIC may have
// some still, with all their flags: these stay as they are. A temporary IPv6 address (RFC
// 8981) cannot be made as one. It moves only where a connection uses it, deprecated, so that
// no new connection does; the kernel makes another.
func (x *crossing) moving() []rtnl.Address {
	var list []rtnl.Address
	for _, a := range x.held.Addrs {
		temporary := a.Temporary() || x.original.HasTemporary(a)
		switch {
		case x.back && x.before.Has(a):
		case temporary && !x.inUse[a.Local()]:
		case temporary:
			list = append(list, a.WithLifetimes(rtnl.Lifetimes{Preferred: 0, Valid: a.Lifetimes().Valid}))
		default:
			list = append(list, a)
		}
	}
	return list
}

// neighbors adds the neighbors to the other link. Static ones must not get lost; known ones
// spare the kernel a question, and may fail.
//
//	ip neigh replace ADDRESS lladdr MAC dev LINK
func (x *crossing) neighbors() []rtnl.Request {
	var batch []rtnl.Request
	for _, n := range x.held.Neighs {
		r := rtnl.ReplaceNeighbor(x.to.Name, n.On(x.to.Index))
		if !n.Static() {
			r = r.Optional()
		}
		batch = append(batch, r)
	}
	return batch
}

// rules adds, for each policy rule that names the link, a like one that names the other. The
// NIC's rules stay while it is a port, where they match nothing. Where another program has
// renamed the NIC since, the rules still name it as they did, and stay so.
//
//	ip rule add ... iif LINK
func (x *crossing) rules() []rtnl.Request {
	var batch []rtnl.Request
	for _, r := range x.held.Rules {
		if x.was != "" && x.stays(r) {
			continue
		}
		batch = append(batch, rtnl.AddRule(x.to.Name, r.Renamed(x.from.Name, x.to.Name)))
	}
	return batch
}

// stays reports whether the rule, which names the bridge, came from one of the NIC's under
// its old name.
func (x *crossing) stays(r rtnl.Rule) bool {
	old := r.Renamed(x.from.Name, x.was)
	return slices.ContainsFunc(x.original.Rules, func(o rtnl.Rule) bool {
		return slices.Equal(o.Renamed(x.was, x.was).Message, old.Message)
	})
}

// removal deletes the addresses of the old link, secondary ones first, which would go with
// their primary one; and the rules that name a bridge, which is about to go.
//
//	ip addr del ADDRESS dev LINK; ip rule del ... iif BRIDGE
func (x *crossing) removal() []rtnl.Request {
	var batch []rtnl.Request
	for _, a := range slices.Backward(x.held.Addrs) {
		batch = append(batch, rtnl.DelAddress(x.from.Name, a.On(x.from.Index, a.Label(), a.SettableFlags())))
	}
	if x.from.Kind != "bridge" {
		return batch
	}
	for _, r := range x.held.Rules {
		batch = append(batch, rtnl.DelRule(x.from.Name, r))
	}
	return batch
}

// routes adds each route by the new link, given what that link has now, and then deletes the
// one by the old link, and those that the kernel added with the addresses but that were not
// there before. Routes that advertisements gave are on the new link by now.
//
//	ip route append|prepend|replace ROUTE dev LINK; ip route del ROUTE
func (x *crossing) routes(now host.Holdings) []rtnl.Request {
	var batch []rtnl.Request
	var gone []goneRoute
	wanted := map[string]bool{}
	list := x.held.RoutesInOrder()
	again := host.ToPlaceAgain(list)
	for _, h := range list {
		if h.Again {
			for _, a := range again {
				batch = append(batch, rtnl.DelRoute(x.to.Name, a.Over(x.from.Index, x.to.Index)))
			}
			again = nil // once, before the first of them
			place := rtnl.AppendRoute
			if h.First {
				place = rtnl.PrependRoute
			}
			batch = append(batch, place(x.to.Name, h.Over(x.from.Index, x.to.Index)))
			continue
		}
		if x.byRA(h.Route) {
			gone = append(gone, goneRoute{x.from.Name, h.Route})
			continue
		}
		moved := h.Over(x.from.Index, x.to.Index)
		wanted[string(moved.Plain().Message)] = true
		switch {
		case h.NeedsReplace():
			batch = append(batch, rtnl.ReplaceRoute(x.to.Name, moved)) // in place of the old one
			continue
		case h.First:
			if slices.ContainsFunc(now.Routes, moved.Same) { // the kernel put its own last
				batch = append(batch, rtnl.DelRoute(x.to.Name, moved))
			}
			batch = append(batch, rtnl.PrependRoute(x.to.Name, moved))
		default:
			batch = append(batch, rtnl.AppendRoute(x.to.Name, moved))
		}
		gone = append(gone, goneRoute{x.from.Name, h.Route})
	}
	if x.from.Index == x.to.Index {
		return batch
	}
	for _, r := range now.Routes {
		there := slices.ContainsFunc(x.before.Routes, r.Same)
		if !wanted[string(r.Plain().Message)] && !there && !x.byRA(r) {
			gone = append(gone, goneRoute{x.to.Name, r})
		}
	}
	return append(batch, deletions(gone)...)
}

// goneRoute is a route to delete, and its link.
type goneRoute struct {
	link string
	rtnl.Route
}

// deletions deletes the routes to neighbors of IPv6 last: the kernel answers an echo request
// by the link on which it came in, and needs a route by that link until then.
func deletions(list []goneRoute) []rtnl.Request {
	rank := func(r goneRoute) int {
		switch {
		case r.Family() == unix.AF_INET:
			return 0
		case r.Gateway().IsValid() || r.Dst().Addr().IsLinkLocalUnicast():
			return 1
		}
		return 2
	}
	order.By(list, func(a, b goneRoute) int {
		return cmp.Or(rank(a)-rank(b), rtnl.BySpecificity(a.Route, b.Route))
	})
	var batch []rtnl.Request
	for _, r := range list {
		batch = append(batch, rtnl.DelRoute(r.link, r.Route))
	}
	return batch
}
