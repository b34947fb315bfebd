// Package guestwatch finds out from the frames on a VM's tap how far its guest has got
// on the network, and which addresses it uses: ARP (RFC 826), neighbour discovery
// (RFC 4861), DHCP (RFC 2131) and DNS (RFC 1035). It works in every mode, because it
// asks neither the guest nor the DHCP server.
//
// A [State] is a value; reading a frame is pure. A [Port] reads a tap by a packet socket,
// which needs CAP_NET_RAW, and changes nothing. Its Run belongs to one goroutine; Close
// may be called from another.
package guestwatch

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/packet"
)

// Stage is how far a guest has got on its network.
type Stage int

// The stages in the order a guest usually takes them. A guest with a static
// address skips those of DHCP.
const (
	Silent    Stage = iota // nothing yet
	Frame                  // any frame from the guest
	Discover               // the guest asks for an address
	Offer                  // a server offers one
	Request                // the guest takes it
	ACK                    // the server agrees
	ARP                    // the guest uses an address
	DNSQuery               // the guest asks a name server
	DNSAnswer              // the name server answers
)

var stageNames = []string{"no frame", "first frame", "DISCOVER", "OFFER", "REQUEST", "ACK", "ARP", "DNS query", "DNS answer"}

// String names the stage as `qnet wait` does.
func (s Stage) String() string { return stageNames[s] }

// maxAddresses bounds the addresses that are kept of a guest that uses many.
const maxAddresses = 8

// State is what the frames so far say about a guest's NIC.
type State struct {
	Stages    uint16       `json:"stages,omitempty"`    // bit 1<<Stage for each reached
	Addresses []netip.Addr `json:"addresses,omitempty"` // the last seen first; IPv4 before IPv6, link-local last
	NAKs      int          `json:"naks,omitempty"`      // refusals of a DHCP server

	// Claims are IPv6 addresses, the newest first and none link-local, that the guest uses, or has
	// checked for duplicates, which it does before it uses one (RFC 4862, section 5.4).
	Claims []netip.Addr `json:"claims,omitempty"`
}

// IPv6 returns the IPv6 addresses that the guest uses or is about to use, the newest first and
// none link-local.
func (s State) IPv6() []netip.Addr {
	list := slices.Clone(s.Claims)
	for _, a := range s.Addresses {
		if a.Is6() && !a.IsLinkLocalUnicast() && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// Has reports whether the guest has reached the stage.
func (s State) Has(stage Stage) bool { return s.Stages&(1<<stage) != 0 }

// Last returns the furthest stage that the guest has reached.
func (s State) Last() Stage {
	for stage := DNSAnswer; stage > Silent; stage-- {
		if s.Has(stage) {
			return stage
		}
	}
	return Silent
}

// sighting is what one frame says.
type sighting struct {
	stage   Stage
	address netip.Addr
	nak     bool
	claim   netip.Addr // an IPv6 address that the guest asks about before it uses it, or uses
	denied  netip.Addr // an address that another host says it has
}

// add notes a sighting and reports whether it says anything new.
func (s *State) add(x sighting) bool {
	if x.denied.IsValid() { // another host's frame
		return s.claims(x)
	}
	before := s.Stages
	s.Stages |= 1<<x.stage&^1 | 1<<Frame
	changed := s.Stages != before || x.nak
	if x.nak {
		s.NAKs++
	}
	changed = s.claims(x) || changed
	if !x.address.IsValid() || len(s.Addresses) > 0 && s.Addresses[0] == x.address {
		return changed
	}
	list := slices.DeleteFunc(slices.Clone(s.Addresses), func(a netip.Addr) bool { return a == x.address })
	list = slices.Insert(list, 0, x.address)
	order.By(list, func(a, b netip.Addr) int { return rank(a) - rank(b) })
	list = list[:min(len(list), maxAddresses)]
	if slices.Equal(list, s.Addresses) {
		return changed
	}
	s.Addresses = list
	return true
}

// claims notes an address that the guest asks about or uses, or that it must not have, and reports
// whether that is new.
func (s *State) claims(x sighting) bool {
	known := slices.Contains(s.Claims, x.claim)
	if !leadsOut(x.claim) && !slices.Contains(s.Claims, x.denied) || known && x.claim == x.address {
		return false
	}
	is := func(a netip.Addr) bool { return a == x.claim || a == x.denied }
	list := slices.DeleteFunc(slices.Clone(s.Claims), is)
	if leadsOut(x.claim) {
		list = slices.Insert(list, 0, x.claim)
	}
	list = list[:min(len(list), maxAddresses)]
	if slices.Equal(list, s.Claims) {
		return false
	}
	s.Claims = list
	return true
}

// leadsOut reports whether others than the neighbours of its host can use the IPv6 address.
func leadsOut(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && (a.IsGlobalUnicast() || a.IsPrivate())
}

// rank orders addresses by how useful they are to the user.
func rank(a netip.Addr) int {
	switch {
	case a.IsLinkLocalUnicast():
		return 2
	case a.Is6():
		return 1
	}
	return 0
}

const (
	etherARP  = 0x0806
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// parse reads one frame; out says that it goes to the guest.
func parse(b []byte, mac net.HardwareAddr, out bool) (sighting, bool) {
	if len(b) < packet.EtherLen {
		return sighting{}, false
	}
	x, ok := sighting{}, false
	switch kind, body := binary.BigEndian.Uint16(b[12:]), b[packet.EtherLen:]; {
	case kind == etherARP && !out:
		x, ok = parseARP(body)
	case kind == etherIPv4:
		x, ok = parseIPv4(body, mac, out)
	case kind == etherIPv6 && !out:
		x, ok = parseND(body)
	case kind == etherIPv6:
		x, ok = parseDenial(body)
	}
	if !ok && !out {
		return sighting{stage: Frame}, true
	}
	if x.address.IsUnspecified() {
		x.address = netip.Addr{} // as of an ACK in answer to INFORM
	}
	return x, ok
}

// parseARP takes the sender's address of an ARP packet for an address in use. A probe
// (RFC 5227) has none.
func parseARP(b []byte) (sighting, bool) {
	if len(b) < 28 || binary.BigEndian.Uint16(b[2:]) != etherIPv4 || b[4] != 6 || b[5] != 4 {
		return sighting{}, false
	}
	sender := netip.AddrFrom4([4]byte(b[14:18]))
	if sender.IsUnspecified() {
		return sighting{stage: Frame}, true
	}
	return sighting{stage: ARP, address: sender}, true
}

// parseND takes the source of a neighbour solicitation or advertisement for an address
// in use.
func parseND(b []byte) (sighting, bool) {
	if len(b) < 41 || b[6] != 58 || b[40] != 135 && b[40] != 136 {
		return sighting{}, false
	}
	source := netip.AddrFrom16([16]byte(b[8:24]))
	x := sighting{stage: Frame, address: source, claim: source}
	if source.IsUnspecified() {
		x.address, x.claim = netip.Addr{}, netip.Addr{}
		if b[40] == 135 && b[7] == 255 && len(b) >= 64 { // RFC 4861, section 7.1.1
			x.claim = netip.AddrFrom16([16]byte(b[48:64]))
		}
	}
	return x, true
}

// parseDenial reads the advertisement for all nodes by which another host keeps an address that the
// guest checks (RFC 4862, section 5.4.4).
func parseDenial(b []byte) (sighting, bool) {
	if len(b) < 64 || b[6] != 58 || b[40] != 136 || netip.AddrFrom16([16]byte(b[24:40])) != netip.IPv6LinkLocalAllNodes() {
		return sighting{}, false
	}
	return sighting{stage: Frame, denied: netip.AddrFrom16([16]byte(b[48:64]))}, true
}

func parseIPv4(b []byte, mac net.HardwareAddr, out bool) (sighting, bool) {
	if len(b) < 20 || b[9] != 17 || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return sighting{}, false
	}
	header := int(b[0]&0x0f) * 4
	if header < 20 || len(b) < header+8 {
		return sighting{}, false
	}
	udp := b[header:]
	from, to := binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
	switch {
	case !out && to == 53:
		return sighting{stage: DNSQuery, address: netip.AddrFrom4([4]byte(b[12:16]))}, true
	case out && from == 53:
		return sighting{stage: DNSAnswer}, true
	case !out && to == 67, out && from == 67:
		return parseDHCP(udp[8:], mac, out)
	}
	return sighting{}, false
}

// parseDHCP reads the message type (option 53) behind BOOTP's 240 bytes.
func parseDHCP(b []byte, mac net.HardwareAddr, out bool) (sighting, bool) {
	if len(b) < 240 || !slices.Equal(b[28:34], []byte(mac)) {
		return sighting{}, false
	}
	stages := map[byte]Stage{1: Discover, 3: Request}
	if out {
		stages = map[byte]Stage{2: Offer, 5: ACK, 6: Frame}
	}
	for options := b[240:]; len(options) > 2 && options[0] != 255; {
		if options[0] == 0 {
			options = options[1:]
			continue
		}
		if options[0] == 53 {
			x := sighting{stage: stages[options[2]], nak: out && options[2] == 6}
			if x.stage == ACK {
				x.address = netip.AddrFrom4([4]byte(b[16:20]))
			}
			return x, x.stage != Silent
		}
		options = options[min(2+int(options[1]), len(options)):]
	}
	return sighting{}, false
}
