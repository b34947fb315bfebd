package step

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// String lists the commands in the order of the three parts of the move.
func (s MoveToBridge) String() string {
	h := s.Held
	lines := []string{sysctlCommand(host.RPFilterKey(s.Bridge), "2")}
	for _, a := range h.AddressList() {
		lines = append(lines, rtnl.AddCommand(a, s.Link, s.Bridge))
	}
	lines = append(lines, neighborCommands(h, s.Bridge)...)
	for _, raw := range h.Rules {
		lines = append(lines, rtnl.Rule{Raw: raw}.Naming(s.Link, s.Bridge).Command("add"))
	}
	if s.GenMode != "" {
		lines = append(lines, "ip link set "+s.Link+" addrgenmode none")
	}
	lines = append(lines, "ip link set "+s.Link+" master "+s.Bridge)
	lines = append(lines, flagCommands(h, s.Link, s.Bridge)...)
	lines = append(lines, routeCommands(h, s.Link, s.Bridge)...)
	for _, a := range slices.Backward(h.AddressList()) {
		lines = append(lines, rtnl.DelCommand(a, s.Link))
	}
	if s.RPFilter != "2" {
		lines = append(lines, sysctlCommand(host.RPFilterKey(s.Bridge), s.RPFilter))
	}
	return strings.Join(lines, "\n")
}

// UndoString is the commands that move Held back, as Undo does if nothing changed meanwhile.
func (s MoveToBridge) UndoString() string {
	h := s.Held
	lines := []string{sysctlCommand(host.RPFilterKey(s.Bridge), "2")}
	for _, a := range h.AddressList() {
		lines = append(lines, rtnl.AddCommand(a, s.Link, s.Link))
	}
	lines = append(lines, neighborCommands(h, s.Link)...)
	lines = append(lines, flagCommands(h, s.Link, s.Link)...)
	lines = append(lines, routeCommands(h, s.Bridge, s.Link)...)
	lines = append(lines, "ip link set "+s.Link+" nomaster")
	for _, a := range slices.Backward(h.AddressList()) {
		lines = append(lines, rtnl.DelCommand(a, s.Bridge))
	}
	for _, raw := range h.Rules {
		lines = append(lines, rtnl.Rule{Raw: raw}.Naming(s.Link, s.Bridge).Command("del"))
	}
	if s.GenMode != "" {
		lines = append(lines, "ip link set "+s.Link+" addrgenmode "+rtnl.GenModeWords[s.GenMode])
	}
	return strings.Join(lines, "\n")
}

// flagCommands give IPv6 addresses the flags that they had: they were added without
// duplicate address detection.
func flagCommands(h host.Holdings, link, to string) []string {
	var lines []string
	for _, a := range h.AddressList() {
		if a.Checked() {
			lines = append(lines, "ip addr change "+a.AsOn(link, to, a.Flags()))
		}
	}
	return lines
}

// neighborCommands set the entries that an administrator or a program made. The move takes
// those along, too, that the kernel learned.
func neighborCommands(h host.Holdings, to string) []string {
	var lines []string
	for _, raw := range h.Neighs {
		n := rtnl.Neighbor{Raw: raw}
		dst := n.Addr(rtnl.BodyKind, unix.NDA_DST)
		switch {
		case n.Proxy():
			lines = append(lines, fmt.Sprintf("ip neigh replace proxy %s dev %s", dst, to))
		case n.Set():
			lines = append(lines, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev %s", dst, n.HardwareAddr(), to))
		}
	}
	return lines
}

// routeCommands add each route by one link, and then delete it by the other.
func routeCommands(h host.Holdings, from, to string) []string {
	var add, del []string
	for _, m := range h.InOrder() {
		words := func(link string) string {
			return m.Words(func(index int) string {
				if index == h.Index {
					return link
				}
				return h.Names[index]
			})
		}
		ip := "ip " + rtnl.FamilyFlag(m.Family()) + "route "
		switch {
		case m.Replaces():
			add = append(add, ip+"replace "+words(to))
			continue
		case withAddress(m.Route, h):
			// The kernel added this route with the address, and deletes it with that.
			if m.First {
				add = append(add, ip+"del "+words(to), ip+"prepend "+words(to))
			}
			if m.Family() == unix.AF_INET6 {
				del = append(del, ip+"del "+words(from))
			}
			continue
		case m.First:
			add = append(add, ip+"prepend "+words(to))
		default:
			add = append(add, ip+"append "+words(to))
		}
		del = append(del, ip+"del "+words(from))
	}
	return append(add, del...)
}

// withAddress reports whether the kernel adds the route with one of the addresses.
func withAddress(r rtnl.Route, h host.Holdings) bool {
	if r.Protocol() != unix.RTPROT_KERNEL || r.Table() != unix.RT_TABLE_MAIN || r.Gateway().IsValid() {
		return false
	}
	return slices.ContainsFunc(h.AddressList(), func(a rtnl.Address) bool {
		p := a.Prefix()
		if peer, ok := a.Peer(); ok {
			p = netip.PrefixFrom(peer, a.Bits())
		}
		return p.Masked() == r.Dst() && a.Flags()&unix.IFA_F_NOPREFIXROUTE == 0
	})
}
