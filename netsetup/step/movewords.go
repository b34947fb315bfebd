package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (s MoveToBridge) String() string {
	h := s.Held
	lines := []string{sysctlCommand(rpFilterKey(s.Bridge), "2")}
	for _, a := range h.addresses() {
		lines = append(lines, addCommand(a, s.Link, s.Bridge))
	}
	lines = append(lines, neighbourCommands(h, s.Bridge)...)
	for _, raw := range h.Rules {
		lines = append(lines, rule{raw}.naming(s.Link, s.Bridge).command("add"))
	}
	if s.GenMode != "" {
		lines = append(lines, "ip link set "+s.Link+" addrgenmode none")
	}
	lines = append(lines, "ip link set "+s.Link+" master "+s.Bridge)
	lines = append(lines, flagCommands(h, s.Link, s.Bridge)...)
	lines = append(lines, routeCommands(h, s.Link, s.Bridge)...)
	for _, a := range slices.Backward(h.addresses()) {
		lines = append(lines, delCommand(a, s.Link))
	}
	if s.RPFilter != "2" {
		lines = append(lines, sysctlCommand(rpFilterKey(s.Bridge), s.RPFilter))
	}
	return strings.Join(lines, "\n")
}

// UndoString shows Undo as it would be if nothing changed meanwhile.
func (s MoveToBridge) UndoString() string {
	h := s.Held
	lines := []string{sysctlCommand(rpFilterKey(s.Bridge), "2")}
	for _, a := range h.addresses() {
		lines = append(lines, addCommand(a, s.Link, s.Link))
	}
	lines = append(lines, neighbourCommands(h, s.Link)...)
	lines = append(lines, flagCommands(h, s.Link, s.Link)...)
	lines = append(lines, routeCommands(h, s.Bridge, s.Link)...)
	lines = append(lines, "ip link set "+s.Link+" nomaster")
	for _, a := range slices.Backward(h.addresses()) {
		lines = append(lines, delCommand(a, s.Bridge))
	}
	for _, raw := range h.Rules {
		lines = append(lines, rule{raw}.naming(s.Link, s.Bridge).command("del"))
	}
	if s.GenMode != "" {
		lines = append(lines, "ip link set "+s.Link+" addrgenmode "+genModeWords[s.GenMode])
	}
	return strings.Join(lines, "\n")
}

// flagCommands give IPv6 addresses the flags they had.
func flagCommands(h Holdings, link, to string) []string {
	var lines []string
	for _, a := range h.addresses() {
		if a.checked() {
			lines = append(lines, "ip addr change "+a.asOn(link, to, a.flags()))
		}
	}
	return lines
}

// neighbourCommands are of those somebody set; what was learned is taken along too.
func neighbourCommands(h Holdings, to string) []string {
	var lines []string
	for _, raw := range h.Neighs {
		n := neighbour{raw}
		dst := n.addr(bodyKind, unix.NDA_DST)
		switch {
		case n.proxy():
			lines = append(lines, fmt.Sprintf("ip neigh replace proxy %s dev %s", dst, to))
		case n.set():
			lines = append(lines, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev %s", dst, n.mac(), to))
		}
	}
	return lines
}

// routeCommands add each route by the other link, and delete it by the one.
func routeCommands(h Holdings, from, to string) []string {
	var add, del []string
	for _, m := range h.inOrder() {
		words := func(link string) string {
			return m.words(func(index int) string {
				if index == h.Index {
					return link
				}
				return h.Names[index]
			})
		}
		ip := "ip " + familyFlag(m.family()) + "route "
		switch {
		case m.replaces():
			add = append(add, ip+"replace "+words(to))
			continue
		case withAddress(m.route, h):
			// The kernel has added it with the address, and deletes it so.
			if m.first {
				add = append(add, ip+"del "+words(to), ip+"prepend "+words(to))
			}
			if m.family() == unix.AF_INET6 {
				del = append(del, ip+"del "+words(from))
			}
			continue
		case m.first:
			add = append(add, ip+"prepend "+words(to))
		default:
			add = append(add, ip+"append "+words(to))
		}
		del = append(del, ip+"del "+words(from))
	}
	return append(add, del...)
}

// withAddress reports whether the kernel adds the route with one of the addresses.
func withAddress(r route, h Holdings) bool {
	if r.protocol() != unix.RTPROT_KERNEL || r.table() != unix.RT_TABLE_MAIN || r.gateway().IsValid() {
		return false
	}
	return slices.ContainsFunc(h.addresses(), func(a address) bool {
		p := a.prefix()
		if peer, ok := a.peer(); ok {
			p = netip.PrefixFrom(peer, a.bits())
		}
		return p.Masked() == r.dst() && a.flags()&unix.IFA_F_NOPREFIXROUTE == 0
	})
}
