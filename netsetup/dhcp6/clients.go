package dhcp6

import (
	"net"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/packet"
)

// Reserve gives a VM's NIC its address. The caller gives each address once.
func (s *Server) Reserve(hw net.HardwareAddr, a netip.Addr, vm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := mac(hw)
	if c := s.clients[m]; c != nil && c.address == a && c.vm == vm {
		return
	}
	s.free(m)
	s.clients[m] = &client{address: a, vm: vm}
	s.holders[a] = m
}

// Release ends the reservation of a VM's NIC.
func (s *Server) Release(hw net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(mac(hw))
}

// free forgets a client. mu is held.
func (s *Server) free(m mac) {
	if c := s.clients[m]; c != nil {
		if s.holders[c.address] == m {
			delete(s.holders, c.address)
		}
		delete(s.clients, m)
	}
}

// Saw takes over the addresses that a VM's NIC was seen to use, the newest first. Those of
// other prefixes, the host's and those of other NICs do not count.
func (s *Server) Saw(hw net.HardwareAddr, list []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := mac(hw)
	c := s.clients[m]
	if c == nil {
		return
	}
	c.seen = c.seen[:0]
	for _, a := range list {
		holder, held := s.holders[a]
		if s.c.Prefix.Contains(a) && a != s.c.Address && (!held || holder == m) && len(c.seen) < maxSeen {
			c.seen = append(c.seen, a)
		}
	}
}

// Taken returns the address reserved for a VM's NIC, and whether its guest has taken the lease.
func (s *Server) Taken(hw net.HardwareAddr) (a netip.Addr, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[mac(hw)]
	if c == nil {
		return netip.Addr{}, false
	}
	return c.address, s.leased(c)
}

// leased reports whether a guest has its address by DHCPv6. mu is held.
func (s *Server) leased(c *client) bool { return c.bound && s.now().Before(c.until) }

// Lookup returns the addresses by which the VM of that name is reached, one of each NIC whose
// guest uses any.
func (s *Server) Lookup(vm string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []netip.Addr
	for m, c := range s.clients {
		if c.vm != vm {
			continue
		}
		if s.leased(c) {
			found = append(found, c.address)
		} else if a := Best(s.c.Prefix, m[:], c.address, c.seen); a.IsValid() {
			found = append(found, a)
		}
	}
	order.By(found, netip.Addr.Compare)
	return found
}

// Best is the one of the addresses that a NIC was seen to use, the newest first, by which it is
// called: the one reserved for it, else the one that its MAC makes, else the newest of the
// prefix; none where it uses none.
func Best(prefix netip.Prefix, hw net.HardwareAddr, reserved netip.Addr, seen []netip.Addr) netip.Addr {
	for _, a := range []netip.Addr{reserved, packet.EUI64(prefix, hw)} {
		if slices.Contains(seen, a) {
			return a
		}
	}
	for _, a := range seen {
		if prefix.Contains(a) {
			return a
		}
	}
	return netip.Addr{}
}

// Reverse returns the name of the VM that has an address, "" if none has it.
func (s *Server) Reverse(a netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.holders[a]; ok {
		return s.clients[m].vm
	}
	for _, c := range s.clients {
		if slices.Contains(c.seen, a) {
			return c.vm
		}
	}
	return ""
}
