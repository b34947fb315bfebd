// Package ports is the forwards of a NIC: which ports of the host lead to the guest. It is pure.
package ports

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/profiles/strict"
)

// Most is how many forwards a VM has at most, each range expanded.
const Most = 256

// Forward leads one port of the host to a port of the guest.
type Forward struct {
	Proto   string     `json:"proto"`            // "tcp" or "udp"
	Address netip.Addr `json:"address,omitzero"` // of the host; zero is "*": all addresses, IPv4 and IPv6, by one socket
	Port    uint16     `json:"port"`             // of the host, 1 to 65535
	Guest   uint16     `json:"guest"`            // the guest's port, 1 to 65535
}

// String returns the forward as a profile writes it, such as "127.0.0.1:8080:80" and
// "*:5300:53/udp".
func (f Forward) String() string {
	s := fmt.Sprintf("%s:%d", f.Listens(), f.Guest)
	if f.Proto != "tcp" {
		s += "/" + f.Proto
	}
	return s
}

// Listens returns the host's end of the forward, such as "127.0.0.1:8080", "[::1]:8080" and
// "*:8080".
func (f Forward) Listens() string {
	if !f.Address.IsValid() {
		return fmt.Sprintf("*:%d", f.Port)
	}
	return netip.AddrPortFrom(f.Address, f.Port).String()
}

// Meets reports whether one host cannot bind the ports of both forwards: one address is the
// other, or is among those that the other means (ip(7), ipv6(7) without SO_REUSEPORT).
func (f Forward) Meets(o Forward) bool {
	if f.Proto != o.Proto || f.Port != o.Port {
		return false
	}
	a, b := f.Address, o.Address
	if !a.IsValid() || !b.IsValid() || a == b {
		return true
	}
	return a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

// Parse reads what one string of a NIC's ports means, in Docker's order:
// [ADDRESS:]PORT:GUEST[/tcp|/udp|/tcp+udp]. ADDRESS is an IPv4 address, an IPv6 address in
// brackets, or * for all; without one there is a forward at 127.0.0.1 and one at ::1. PORT and
// GUEST are ports, or ranges FIRST-LAST of the same length. The error says what was got and
// what is allowed.
func Parse(s string) ([]Forward, error) {
	wrong := func(allowed string, args ...any) ([]Forward, error) {
		return nil, fmt.Errorf("got %s, allowed: "+allowed, append([]any{strict.Quote(s)}, args...)...)
	}
	ends, proto, named := strings.Cut(s, "/")
	protos := protocols(proto)
	if protos == nil || named && proto == "" {
		return wrong("/tcp, /udp or /tcp+udp behind the ports")
	}
	i := strings.LastIndexByte(ends, ':')
	if i < 0 {
		return wrong("a port of the host and one of the guest, such as 2222:22")
	}
	addresses, at, ok := listens(ends[:i])
	if !ok {
		return wrong("before the ports an IPv4 address, an IPv6 address in brackets that is not link-local, or *, such as 127.0.0.1:8080:80")
	}
	first, n, ok := portRange(at)
	to, m, okTo := portRange(ends[i+1:])
	all := n * len(addresses) * len(protos)
	switch {
	case !ok || !okTo:
		return wrong("ports 1 to 65535, or ranges of them, such as 8000-8010:9000-9010")
	case n != m:
		return wrong("ranges of the same length; here the host has %d ports and the guest %d", n, m)
	case all > Most:
		return wrong("at most %d forwards; these are %d", Most, all)
	}
	list := make([]Forward, 0, all)
	for k := range uint16(n) { //nolint:gosec // at most Most
		for _, proto := range protos {
			for _, a := range addresses {
				list = append(list, Forward{Proto: proto, Address: a, Port: first + k, Guest: to + k})
			}
		}
	}
	return list, nil
}

// protocols reads what stands behind the slash, "" for nothing; nil if that is no protocol.
func protocols(s string) []string {
	switch s {
	case "", "tcp", "udp":
		return []string{cmp.Or(s, "tcp")}
	case "tcp+udp":
		return []string{"tcp", "udp"}
	}
	return nil
}

// listens reads [ADDRESS:]PORT: the addresses, of which the zero Addr is *, and the port.
func listens(s string) (addresses []netip.Addr, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, s, true
	}
	text, port := s[:i], s[i+1:]
	if text == "*" {
		return []netip.Addr{{}}, port, true
	}
	inner, opened := strings.CutPrefix(text, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	a, err := netip.ParseAddr(inner)
	if err != nil || opened != closed || a.Is6() != opened {
		return nil, "", false
	}
	ok = a.Zone() == "" && !a.Is4In6() && !a.IsMulticast() && (a.Is4() || !a.IsLinkLocalUnicast())
	return []netip.Addr{a}, port, ok
}

// portRange reads a port or a range of ports: the first, and how many they are.
func portRange(s string) (first uint16, n int, ok bool) {
	from, to, ranged := strings.Cut(s, "-")
	a, ok := portOf(from)
	if !ranged {
		return a, 1, ok
	}
	b, okTo := portOf(to)
	return a, int(b) - int(a) + 1, ok && okTo && a <= b
}

// portOf reads a port in digits alone.
func portOf(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && s[0] != '0'
}

// Meeting returns the forward of the list that f meets.
func Meeting(f Forward, list []Forward) (o Forward, ok bool) {
	for _, o := range list {
		if f.Meets(o) {
			return o, true
		}
	}
	return Forward{}, false
}
