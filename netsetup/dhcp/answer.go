package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// answer returns the answer to a client's message by RFC 2131, section 4.3; nil for a
// message that gets none.
func (s *Server) answer(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != 6 {
		return nil
	}
	if m.GatewayIPAddr != nil && !m.GatewayIPAddr.IsUnspecified() {
		return nil // a relay sent it: qnet's networks have none
	}
	if m.ClientHWAddr[0]&1 != 0 {
		return nil // a multicast address
	}
	client := toMAC(m.ClientHWAddr)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return s.discover(client, m)
	case dhcpv4.MessageTypeRequest:
		return s.request(client, m)
	case dhcpv4.MessageTypeDecline:
		s.decline(client, m)
	case dhcpv4.MessageTypeRelease:
		s.release(client)
	case dhcpv4.MessageTypeInform:
		return s.reply(m, dhcpv4.MessageTypeAck, nil)
	case dhcpv4.MessageTypeNone:
		return s.bootp(client, m)
	}
	return nil
}

func (s *Server) discover(client mac, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	l := s.pool.offer(client, toAddr(m.RequestedIPAddress()))
	if l == nil {
		s.full()
		return nil
	}
	return s.reply(m, dhcpv4.MessageTypeOffer, l)
}

// request answers a client that takes an offer (it names the server), that starts again
// (it names its address), or that renews its lease (it uses its address).
func (s *Server) request(client mac, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	wish := toAddr(m.RequestedIPAddress())
	if server := toAddr(m.ServerIdentifier()); server.IsValid() && server != s.c.Address {
		if l := s.pool.find(client); l != nil && !l.reserved && !l.bound {
			s.pool.free(client) // the client takes another server's offer
		}
		return nil
	}
	if ciaddr := toAddr(m.ClientIPAddr); ciaddr.IsValid() && !ciaddr.IsUnspecified() {
		wish = ciaddr
	}
	// A client that the pool has forgotten gets its address again if that is free.
	l := s.pool.offer(client, wish)
	if l == nil || l.address != wish {
		return s.refuse(m, "the address is not yours on this network")
	}
	s.name(client, l, m)
	if s.pool.bind(client, l) {
		s.keep(client, l)
	}
	return s.reply(m, dhcpv4.MessageTypeAck, l)
}

func (s *Server) bootp(client mac, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	l := s.pool.offer(client, netip.Addr{})
	if l == nil {
		s.full()
		return nil
	}
	if s.pool.bind(client, l) {
		s.keep(client, l)
	}
	return s.reply(m, dhcpv4.MessageTypeNone, l)
}

// decline handles an address that the client found in use by another host.
func (s *Server) decline(client mac, m *dhcpv4.DHCPv4) {
	l := s.pool.find(client)
	if l == nil || l.address != toAddr(m.RequestedIPAddress()) {
		return
	}
	s.warn("client %s found its address %s in use by another", client, l.address)
	if !l.reserved {
		s.pool.free(client)
		s.pool.shun(l.address)
		delete(s.pool.last, client)
	}
}

func (s *Server) release(client mac) {
	if l := s.pool.find(client); l != nil && !l.reserved {
		s.pool.free(client)
	}
}

func (s *Server) full() {
	s.warn("no address left: the part of %s for clients that are no VM's NIC is full", s.c.Prefix)
}

func (s *Server) refuse(m *dhcpv4.DHCPv4, why string) *dhcpv4.DHCPv4 {
	r := s.reply(m, dhcpv4.MessageTypeNak, nil)
	r.UpdateOption(dhcpv4.OptMessage(why))
	r.ClientIPAddr = net.IPv4zero
	return r
}

// reply returns an answer with the network's options. l may be nil.
func (s *Server) reply(m *dhcpv4.DHCPv4, t dhcpv4.MessageType, l *lease) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: m.HWType, TransactionID: m.TransactionID, Flags: m.Flags,
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		ClientHWAddr: m.ClientHWAddr, Options: dhcpv4.Options{},
	}
	if t != dhcpv4.MessageTypeNone {
		r.UpdateOption(dhcpv4.OptMessageType(t))
		r.UpdateOption(dhcpv4.OptServerIdentifier(s.c.Address.AsSlice()))
	}
	if id := m.GetOneOption(dhcpv4.OptionClientIdentifier); id != nil {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, id)) // RFC 6842
	}
	if t == dhcpv4.MessageTypeNak {
		return r
	}
	if t == dhcpv4.MessageTypeAck {
		r.ClientIPAddr = m.ClientIPAddr
	}
	s.offerOptions(r)
	if l != nil {
		r.YourIPAddr = l.address.AsSlice()
		if t != dhcpv4.MessageTypeNone {
			r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
			r.UpdateOption(dhcpv4.OptRenewTimeValue(leaseTime / 2))
			r.UpdateOption(dhcpv4.OptRebindingTimeValue(leaseTime * 7 / 8))
		}
		if l.host != "" {
			r.UpdateOption(dhcpv4.OptHostName(l.host))
		}
	}
	s.netboot(m, r)
	return r
}

func (s *Server) offerOptions(r *dhcpv4.DHCPv4) {
	mask := net.CIDRMask(s.c.Prefix.Bits(), 32)
	r.UpdateOption(dhcpv4.OptSubnetMask(mask))
	all := number(s.c.Prefix.Masked().Addr()) | ^binary.BigEndian.Uint32(mask)
	r.UpdateOption(dhcpv4.OptBroadcastAddress(address(all).AsSlice()))
	if s.c.Router {
		r.UpdateOption(dhcpv4.OptRouter(s.c.Address.AsSlice()))
	}
	if s.c.Domain != "" {
		r.UpdateOption(dhcpv4.OptDNS(s.c.Address.AsSlice()))
		r.UpdateOption(dhcpv4.OptDomainName(s.c.Domain))
		r.UpdateOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{s.c.Domain}}))
	}
	if s.c.MTU != 1500 {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(s.c.MTU))))
	}
}

// netboot gives BOOTP and PXE clients the boot file and its server. Other clients get
// neither, because some misread a boot server's address.
func (s *Server) netboot(m, r *dhcpv4.DHCPv4) {
	if s.c.PXE.File == "" || m.MessageType() != dhcpv4.MessageTypeNone && !strings.HasPrefix(m.ClassIdentifier(), "PXEClient") {
		return
	}
	server := s.c.PXE.Server
	if !server.IsValid() {
		server = s.c.Address
	}
	r.ServerIPAddr = server.AsSlice()
	r.BootFileName = s.c.PXE.File
	r.UpdateOption(dhcpv4.OptTFTPServerName(server.String()))
	r.UpdateOption(dhcpv4.OptBootFileName(s.c.PXE.File))
}

// toAddr returns the zero Addr for anything but an IPv4 address.
func toAddr(ip net.IP) netip.Addr {
	if ip4 := ip.To4(); ip4 != nil {
		return netip.AddrFrom4([4]byte(ip4))
	}
	return netip.Addr{}
}
