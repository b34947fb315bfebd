package server

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// limit tells the clerk which names the ports of a VM get, where their NICs have lists.
func (s *server) limit(ports []keeper.Port) {
	for _, p := range ports {
		if !p.Reach.Listed {
			continue
		}
		var names []string
		for _, e := range p.Reach.Entries {
			if e.Name != "" && !slices.Contains(names, e.Name) {
				names = append(names, e.Name)
			}
		}
		s.clerk.Limit(p.MAC, slices.Concat([]netip.Addr{p.Address}, s.own6([]keeper.Port{p})), names)
	}
}

// hasLists reports whether a VM of the network has a NIC with a list, also one that has not come
// back yet to a keeper that adopted the network.
func (s *server) hasLists() bool {
	for _, steps := range s.journal.Ports {
		if slices.ContainsFunc(step.All[step.AddTable](steps), func(a step.AddTable) bool { return egress.HasList(a.Table) }) {
			return true
		}
	}
	return false
}

// portOfMAC is the port of a registered VM with that MAC.
func (s *server) portOfMAC(mac net.HardwareAddr) (keeper.Port, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.vms {
		for _, p := range m.ports {
			if slices.Equal(p.MAC, mac) {
				return p, true
			}
		}
	}
	return keeper.Port{}, false
}

// knownOf calls f with what DNS has opened for the port of that MAC.
func (s *server) knownOf(mac net.HardwareAddr, f func(*egress.Known)) {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	k := s.known[mac.String()]
	if k == nil {
		k = &egress.Known{}
		s.known[mac.String()] = k
	}
	f(k)
}

// unname ends what is known of the port.
func (s *server) unname(mac net.HardwareAddr) {
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	delete(s.known, mac.String())
}

// Answered lets the guest reach addresses of a name, if its list has the name: the kernel has them
// when it returns dns.Checked. An address that is not the Internet's passes by a prefix of the list
// only: the owner of a name would else choose what the guest reaches of the host's networks.
func (h hearer) Answered(client net.HardwareAddr, name string, addresses []netip.Addr, ttl time.Duration) dns.Ruling {
	port, ok := h.portOfMAC(client)
	entries := port.Reach.Find(name)
	if !ok || len(entries) == 0 {
		return dns.Failed
	}
	for _, a := range addresses {
		if !egress.Global(a) && !port.Reach.Contains(a) {
			h.Refused(client, fmt.Sprintf("%s, which has the address %s", name, a))
			return dns.Refused
		}
	}
	admitted := false
	h.knownOf(client, func(k *egress.Known) { admitted = k.Admit(name, addresses, time.Now(), ttl) })
	if !admitted {
		h.NoteOnce(h.about(fmt.Sprintf("a guest has asked for names with more addresses than it may reach at a time, %d of one name and %d of all: names fail there until some have expired", egress.MostOfName, egress.MostOfPort)))
		return dns.Failed
	}
	err := failpoint.Hit("keeper lets a guest reach an address")
	if err == nil {
		err = h.kernel.Prolong(egress.TableName(port.Tap), egress.Fed(entries, addresses, ttl))
	}
	if err != nil {
		h.log.Warn("let guest reach the addresses of a name", "tap", port.Tap, "error", err)
		return dns.Failed
	}
	return dns.Checked
}

// Refused counts a name that a guest may not have.
func (h hearer) Refused(client net.HardwareAddr, name string) {
	if p, ok := h.portOfMAC(client); ok && p.Reach.Listed {
		h.knownOf(client, func(k *egress.Known) { k.Refuse(name) })
	}
}

// refusedNames are those that the port's guest asked for in vain, in their order.
func (s *server) refusedNames(p keeper.Port) []nft.Count {
	var list []nft.Count
	s.knownMu.Lock()
	defer s.knownMu.Unlock()
	if k := s.known[p.MAC.String()]; k != nil {
		for name, n := range k.Refused() {
			list = append(list, nft.Count{Of: "name " + name, Packets: n})
		}
	}
	slices.SortFunc(list, func(a, b nft.Count) int { return cmp.Compare(a.Of, b.Of) })
	return list
}
