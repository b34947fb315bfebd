package server

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dhcp6"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

// checkIPv6 refuses a VM that wants the network with other IPv6 than VMs run it with.
func (s *server) checkIPv6(vm string, n keeper.Network, others []string) error {
	have := s.journal.Plan
	switch {
	case n.IPv6 != have.Network.IPv6:
		return host.Refuse("VM %q wants network %q %s ipv6, VMs %v run it %s", vm, n.Name, with(n.IPv6), others, with(have.Network.IPv6))
	case n.Subnet6.IsValid() && have.Prefix6.IsValid() && n.Subnet6 != have.Prefix6:
		return host.Refuse("VM %q wants network %q with subnet6 %s, VMs %v run it with %s", vm, n.Name, n.Subnet6, others, have.Prefix6)
	}
	return nil
}

// address6 decides which IPv6 address a port has whose IPv4 address is a: the one it wishes, or
// that of its IPv4 address. It is none on a network without IPv6.
func (s *server) address6(vm string, wish, a netip.Addr, sofar []keeper.Port) (netip.Addr, error) {
	planned := s.journal.Plan
	switch {
	case wish.IsValid() && !planned.Network.IPv6:
		return wish, host.Refuse("VM %q wants address %s, but network %q has no IPv6", vm, wish, planned.Network.Name)
	case !planned.Prefix6.IsValid():
		return netip.Addr{}, nil // a note of the plan says why
	case !wish.IsValid():
		wish = ula.Guest(planned.Prefix6, a)
	case !profiles.ValidAddress6(planned.Prefix6, wish):
		return wish, host.Refuse("VM %q wants address %s, which is no guest address of %s (gateway %s)", vm, wish, planned.Prefix6, planned.Gateway6)
	}
	if other := s.holder(vm, sofar, func(o keeper.Port) bool { return o.Address6 == wish }); other != "" {
		return wish, host.Refuse("VM %q wants address %s, which VM %q has", vm, wish, other)
	}
	return wish, nil
}

// SetRouter6 tells guests whether the host is their IPv6 router to the outside.
func (s *server) SetRouter6(on bool) { s.clerk.SetRouter6(on) }

// own6 are the IPv6 addresses that a VM with these ports may use on the network: those that qnet
// gives, and those that its MACs make of the prefix.
func (s *server) own6(ports []keeper.Port) []netip.Addr {
	var list []netip.Addr
	for _, p := range ports {
		if p.Address6.IsValid() {
			list = append(list, p.Address6, ula.EUI64(s.journal.Plan.Prefix6, p.MAC))
		}
	}
	return list
}

// sockets6 are those by which a clerk serves IPv6.
type sockets6 struct {
	dhcp6 *os.File // nil of a network without IPv6
	names dns.Sockets
}

func (s sockets6) close() {
	if s.dhcp6 != nil {
		s.dhcp6.Close()
	}
	s.names.Close()
}

// openIPv6 opens the sockets of a network with IPv6. Without domain there is no name server, and
// without its port over IPv6 guests ask the one over IPv4.
func (s *server) openIPv6(bridge host.Link, domain string) (more sockets6, err error) {
	plan := s.journal.Plan
	if !plan.Prefix6.IsValid() {
		return more, nil
	}
	if more.dhcp6, err = dhcp6.Open(bridge.Index, s.log); err != nil || domain == "" {
		return more, err
	}
	more.names, err = dns.Open(dns.Config{Link: plan.Bridge, Address: plan.Gateway6, Prefix: plan.Prefix6})
	if err != nil {
		s.Note(s.about(fmt.Sprintf("network %s has no name server over IPv6: %v%s", s.place.Name, err, s.spec.Port53)))
	}
	return more, nil
}

// tellSeen tells the clerk the IPv6 addresses of the network that a port's guest was seen to use:
// those that name the guest first.
func (s *server) tellSeen(p *keeper.Port) {
	if !p.Address6.IsValid() {
		return
	}
	prefix := netip.PrefixFrom(p.Address6, ula.Bits).Masked()
	s.mu.Lock()
	seen := p.Seen.IPv6()
	s.mu.Unlock()
	list := slices.DeleteFunc(seen, func(a netip.Addr) bool { return !prefix.Contains(a) })
	for _, first := range []netip.Addr{packet.EUI64(prefix, p.MAC), p.Address6} {
		if i := slices.Index(list, first); i > 0 {
			list = slices.Insert(slices.Delete(list, i, i+1), 0, first)
		}
	}
	s.naming.Load().Saw(p.MAC, list)
}

// addAddress6 adds a port's IPv6 address to its lease.
func addAddress6(leases []dhcp.Lease, p keeper.Port) {
	for i := range leases {
		if l := &leases[i]; l.VM && l.MAC == p.MAC.String() {
			l.Address6 = p.Address6
		}
	}
}
