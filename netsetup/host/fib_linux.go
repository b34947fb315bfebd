package host

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadFIB reads the policy rules, and the IPv4 routes of all tables that decide on the
// addresses of a prefix: the host may have very many others. An invalid prefix is for the rules
// alone. A route by a dead link, or for one type of service alone, is left out. It needs no
// rights.
//
//	ip -4 rule; ip -4 route show table all
func ReadFIB(about netip.Prefix) (FIB, error) {
	rules, err := readRules()
	if err != nil || !about.IsValid() {
		return FIB{Rules: rules}, err
	}
	routes, err := dump.Whole(func() ([]FIBRoute, error) {
		var list []FIBRoute
		err := rtnl.WalkRoutes(unix.AF_INET, func(r rtnl.Route) {
			if r.Dst().Overlaps(about) && !r.Dead() && r.TOS() == 0 {
				list = append(list, fibRoute(r))
			}
		})
		return list, err
	})
	return FIB{Rules: rules, Routes: routes}, err
}

func fibRoute(r rtnl.Route) FIBRoute {
	link := hopsOf(r)[0].Link
	if r.Type() == unix.RTN_BLACKHOLE || r.Type() == unix.RTN_UNREACHABLE || r.Type() == unix.RTN_PROHIBIT {
		link = 0
	}
	return FIBRoute{
		Dst: r.Dst(), Table: r.Table(), Metric: int(r.Metric()), Link: link, Throw: r.Type() == unix.RTN_THROW, Protocol: r.Protocol(),
	}
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
