package step

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// String lists the commands in the order of the three parts of the move.
func (s MoveToBridge) String() string {
	h := s.Held
	lines := []string{sysctlCommand(host.RPFilterKey(s.Bridge), "2")}
	for _, a := range h.Addrs {
		lines = append(lines, a.AddCommand(s.Link, s.Bridge))
	}
	lines = append(lines, neighborCommands(h, s.Bridge)...)
	for _, r := range h.Rules {
		lines = append(lines, r.Renamed(s.Link, s.Bridge).Command("add"))
	}
	if s.GenMode != "" {
		lines = append(lines, "ip link set "+s.Link+" addrgenmode none")
	}
	lines = append(lines, "ip link set "+s.Link+" master "+s.Bridge)
	lines = append(lines, flagCommands(h, s.Link, s.Bridge)...)
	lines = append(lines, routeCommands(h, s.Link, s.Bridge)...)
	for _, a := range slices.Backward(h.Addrs) {
		lines = append(lines, a.DelCommand(s.Link))
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
	for _, a := range h.Addrs {
		lines = append(lines, a.AddCommand(s.Link, s.Link))
	}
	lines = append(lines, neighborCommands(h, s.Link)...)
	lines = append(lines, flagCommands(h, s.Link, s.Link)...)
	lines = append(lines, routeCommands(h, s.Bridge, s.Link)...)
	lines = append(lines, "ip link set "+s.Link+" nomaster")
	for _, a := range slices.Backward(h.Addrs) {
		lines = append(lines, a.DelCommand(s.Bridge))
	}
	for _, r := range h.Rules {
		lines = append(lines, r.Renamed(s.Link, s.Bridge).Command("del"))
	}
	if s.GenMode != "" {
		lines = append(lines, "ip link set "+s.Link+" addrgenmode "+rtnl.GenModeWord(s.GenMode))
	}
	return strings.Join(lines, "\n")
}

// flagCommands give IPv6 addresses the flags that they had: they were added without
// duplicate address detection.
func flagCommands(h host.Holdings, link, to string) []string {
	var lines []string
	for _, a := range h.Addrs {
		if a.PassedDAD() {
			lines = append(lines, a.ChangeCommand(link, to))
		}
	}
	return lines
}

// neighborCommands set the entries that an administrator or a program made. The move takes
// those along, too, that the kernel learned.
func neighborCommands(h host.Holdings, to string) []string {
	var lines []string
	for _, n := range h.Neighs {
		switch {
		case n.Proxy():
			lines = append(lines, fmt.Sprintf("ip neigh replace proxy %s dev %s", n.Dst(), to))
		case n.Static():
			lines = append(lines, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev %s", n.Dst(), n.HardwareAddr(), to))
		}
	}
	return lines
}

// routeCommands add each route by one link, and then delete it by the other.
func routeCommands(h host.Holdings, from, to string) []string {
	command := func(r rtnl.Route, verb, link string) string {
		return r.Command(verb, func(index int) string {
			if index == h.Index {
				return link
			}
			return h.Names[index]
		})
	}
	var lines []string
	var gone []rtnl.Route
	list := h.RoutesInOrder()
	again := host.ToPlaceAgain(list)
	for _, m := range list {
		kernels := withAddress(m.Route, h) // added with the address, and deleted with that
		switch {
		case m.Again:
			for _, a := range again {
				lines = append(lines, command(a.Route, "del", to))
			}
			again = nil // once, before the first of them
			verb := "append"
			if m.First {
				verb = "prepend"
			}
			lines = append(lines, command(m.Route, verb, to))
		case m.NeedsReplace():
			lines = append(lines, command(m.Route, "replace", to))
		case kernels && m.First:
			lines = append(lines, command(m.Route, "del", to), command(m.Route, "prepend", to))
		case kernels:
		case m.First:
			lines = append(lines, command(m.Route, "prepend", to))
		default:
			lines = append(lines, command(m.Route, "append", to))
		}
		if stays := m.Again || m.NeedsReplace() || kernels && m.Family() == unix.AF_INET; !stays {
			gone = append(gone, m.Route)
		}
	}
	order.By(gone, rtnl.BySpecificity)
	for _, r := range gone {
		lines = append(lines, command(r, "del", from))
	}
	return lines
}

// withAddress reports whether the kernel adds the route with one of the addresses.
func withAddress(r rtnl.Route, h host.Holdings) bool {
	if r.Protocol() != unix.RTPROT_KERNEL || r.Table() != unix.RT_TABLE_MAIN || r.Gateway().IsValid() {
		return false
	}
	return slices.ContainsFunc(h.Addrs, func(a rtnl.Address) bool {
		p := a.Prefix()
		if peer, ok := a.Peer(); ok {
			p = netip.PrefixFrom(peer, a.Bits())
		}
		return p.Masked() == r.Dst() && a.Flags()&unix.IFA_F_NOPREFIXROUTE == 0
	})
}
