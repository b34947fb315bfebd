package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/qnet-vm/qnet/internal/order"
)

// Remember keeps, in the lease file, an address that a server in another process has given
// a client. That process may be a guest's: what no server says is an error.
func (s *Server) Remember(client net.HardwareAddr, a netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(client) != 6 || client[0]&1 != 0 || !s.pool.usable(a) {
		return fmt.Errorf("remember a lease: %s of %s is none of this network", a, client)
	}
	m := toMAC(client)
	if s.pool.last[m] != a {
		s.pool.remember(m, a)
		s.write(m, a)
	}
	return nil
}

// Confirm returns the clients as Leases does, by what a server in another process says of
// them, of which it believes only what can be: VMs' NICs have the addresses reserved here,
// other clients those for them.
func (s *Server) Confirm(told []Lease) []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Lease
	taken, taken6 := map[mac]bool{}, map[mac]bool{}
	for _, l := range told[:min(len(told), maxLeases)] {
		hw, err := net.ParseMAC(l.MAC)
		if err != nil || len(hw) != 6 || !s.pool.usable(l.Address) {
			continue
		}
		if own := s.pool.find(toMAC(hw)); own != nil {
			taken[toMAC(hw)], taken6[toMAC(hw)] = l.Bound && l.Address == own.address, l.Bound6
			continue
		}
		if _, held := s.pool.holders[l.Address]; held {
			continue
		}
		if l.Host != "" && !validName(l.Host) {
			l.Host = ""
		}
		list = append(list, Lease{
			MAC: hw.String(), Address: l.Address, Host: l.Host, Bound: l.Bound,
			Left: max(0, min(l.Left, leaseTime)).Truncate(time.Second),
		})
	}
	for m, l := range s.pool.leases {
		list = append(list, Lease{MAC: m.String(), Address: l.address, Host: l.host, VM: true, Bound: taken[m], Bound6: taken6[m]})
	}
	order.By(list, func(a, b Lease) int { return a.Address.Compare(b.Address) })
	return list
}
