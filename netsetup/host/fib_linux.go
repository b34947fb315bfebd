package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
)

// ReadFIB reads the policy rules and the IPv4 routes of all tables. It needs no rights. A
// route by a dead link, or for one type of service alone, is left out.
//
//	ip -4 rule; ip -4 route show table all
func ReadFIB() (FIB, error) {
	rules, err := readRules()
	if err != nil {
		return FIB{}, err
	}
	routes, err := listRoutes()
	if err != nil {
		return FIB{}, err
	}
	fib := FIB{Rules: rules}
	for _, r := range routes {
		if r.Flags&unix.RTNH_F_DEAD == 0 && r.Tos == 0 {
			fib.Routes = append(fib.Routes, fibRoute(r))
		}
	}
	return fib, nil
}

func fibRoute(r netlink.Route) FIBRoute {
	link := r.LinkIndex
	if len(r.MultiPath) > 0 {
		link = r.MultiPath[0].LinkIndex
	}
	if leadsNowhere(r) {
		link = 0
	}
	return FIBRoute{
		Dst: destination(r), Table: r.Table, Metric: r.Priority, Link: link, Throw: r.Type == unix.RTN_THROW, Protocol: int(r.Protocol),
	}
}

// leadsNowhere reports whether packets that the route matches leave by no link of it.
func leadsNowhere(r netlink.Route) bool {
	return r.Type == unix.RTN_BLACKHOLE || r.Type == unix.RTN_UNREACHABLE || r.Type == unix.RTN_PROHIBIT || r.Type == unix.RTN_THROW
}

// listRoutes lists the IPv4 routes of all tables.
func listRoutes() ([]netlink.Route, error) {
	every := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	routes, err := dump.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, every, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// destination returns an IPv4 route's destination; package netlink has none for a default
// route.
func destination(r netlink.Route) netip.Prefix {
	if dst, ok := prefixOf(r.Dst); ok {
		return dst
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// readRules reads the IPv4 policy rules. A kernel without them (CONFIG_IP_MULTIPLE_TABLES)
// looks up the tables local, main and default.
func readRules() ([]FIBRule, error) {
	list, err := dump.Whole(func() ([]netlink.Rule, error) { return netlink.RuleList(netlink.FAMILY_V4) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return []FIBRule{{Table: 255, Suppress: -1}, {Priority: 32766, Table: MainTable, Suppress: -1}, {Priority: 32767, Table: 253, Suppress: -1}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list policy rules: %w", err)
	}
	rules := make([]FIBRule, 0, len(list))
	for _, r := range list {
		rules = append(rules, ruleFact(r))
	}
	return rules, nil
}

func ruleFact(r netlink.Rule) FIBRule {
	fact := FIBRule{Priority: r.Priority, Mark: r.Mark, Not: r.Invert, Table: r.Table, Suppress: r.SuppressPrefixlen, Protocol: int(r.Protocol)}
	fact.From, _ = prefixOf(r.Src)
	fact.To, _ = prefixOf(r.Dst)
	if r.Mask != nil {
		fact.Mark &= *r.Mask
	}
	if r.Goto > 0 {
		fact.Goto = r.Goto
	}
	// The packets that the host itself sends match "iif lo".
	fact.Narrow = r.IifName != "" && r.IifName != "lo" || r.OifName != "" || r.Tos != 0 || r.TunID != 0 || r.IPProto > 0 ||
		r.Dport != nil || r.Sport != nil || r.UIDRange != nil || r.SuppressIfgroup >= 0
	return fact
}
