package packet

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Protocols of neighbours (linux/if_ether.h).
const (
	ARP  = 0x0806
	IPv6 = 0x86dd
)

// Types of ICMPv6 (RFC 4861).
const (
	routerSolicitation     = 133
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
)

const ipv6Len = 40 // a header without extensions

var allRouters = netip.MustParseAddr("ff02::2")

// ARPRequest asks for the MAC of an IPv4 address (RFC 826). Without a valid src it is a
// probe, which changes no neighbour's table (RFC 5227, 2.1.1).
func ARPRequest(mac net.HardwareAddr, src, target netip.Addr) []byte {
	if !src.IsValid() {
		src = netip.IPv4Unspecified()
	}
	b := ether(Broadcast, mac, ARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	b = append(append(b, mac...), src.AsSlice()...)
	b = append(append(b, make([]byte, 6)...), target.AsSlice()...)
	return b
}

// NeighbourSolicitation asks for the MAC of an IPv6 address. src is an address of the
// asking link; the unspecified address makes it a probe (RFC 4862, 5.4.2).
func NeighbourSolicitation(mac net.HardwareAddr, src, target netip.Addr) []byte {
	// The solicited-node multicast address (RFC 4291, 2.7.1).
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	body := append(make([]byte, 4), t[:]...)
	if !src.IsUnspecified() {
		body = append(body, linkLayer(mac)...)
	}
	return icmpv6(mac, src, group, neighbourSolicitation, body)
}

// GratuitousARP tells all hosts of the link that the MAC has the IPv4 address (RFC 5227, 3).
func GratuitousARP(mac net.HardwareAddr, addr netip.Addr) []byte { return ARPRequest(mac, addr, addr) }

// UnsolicitedAdvertisement tells all hosts of the link that the MAC has the IPv6
// address (RFC 4861, 7.2.6).
func UnsolicitedAdvertisement(mac net.HardwareAddr, addr netip.Addr) []byte {
	body := append([]byte{0x20, 0, 0, 0}, addr.AsSlice()...) // override flag: replaces a known MAC
	body = append(append(body, 2, 1), mac...)
	return icmpv6(mac, addr, netip.IPv6LinkLocalAllNodes(), neighbourAdvertisement, body)
}

// RouterSolicitation asks routers to advertise themselves; src is a link-local
// address of the asking link.
func RouterSolicitation(mac net.HardwareAddr, src netip.Addr) []byte {
	return icmpv6(mac, src, allRouters, routerSolicitation, append(make([]byte, 4), linkLayer(mac)...))
}

// Neighbour reads the address and the MAC of an answer to ARPRequest or
// NeighbourSolicitation; the MAC shares memory with the frame.
func Neighbour(frame []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(frame) < EtherLen+28 {
		return netip.Addr{}, nil, false
	}
	body := frame[EtherLen:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case ARP:
		a, _ := netip.AddrFromSlice(body[14:18])
		return a, net.HardwareAddr(body[8:14]), body[7] == 2
	case IPv6:
		if len(body) < 40+24 || body[6] != 58 || body[40] != neighbourAdvertisement {
			return netip.Addr{}, nil, false
		}
		a, _ := netip.AddrFromSlice(body[48:64])
		// A unicast answer may lack the option (RFC 4861, 4.4): then the frame's source has it.
		if option := body[64:]; len(option) >= 8 && option[0] == 2 {
			return a, net.HardwareAddr(option[2:8]), true
		}
		return a, net.HardwareAddr(frame[6:12]), true
	}
	return netip.Addr{}, nil, false
}

func ether(dst, src net.HardwareAddr, protocol uint16) []byte {
	b := make([]byte, 0, EtherLen)
	b = append(append(b, dst...), src...)
	return binary.BigEndian.AppendUint16(b, protocol)
}

// linkLayer is the option with the sender's MAC (RFC 4861, 4.6.1).
func linkLayer(mac net.HardwareAddr) []byte { return append([]byte{1, 1}, mac...) }

// icmpv6 returns the frame of a message to a multicast group (RFC 2464, 7).
func icmpv6(mac net.HardwareAddr, src, dst netip.Addr, kind byte, body []byte) []byte {
	group := dst.As16()
	b := ether(net.HardwareAddr{0x33, 0x33, group[12], group[13], group[14], group[15]}, mac, IPv6)
	length := 4 + len(body)
	b = append(b, 0x60, 0, 0, 0, byte(length>>8), byte(length), 58, 255)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	message := append([]byte{kind, 0, 0, 0}, body...)
	pseudo := sum(b[EtherLen+8:EtherLen+40], 58+uint32(length))
	binary.BigEndian.PutUint16(message[2:], checksum(message, pseudo))
	return append(b, message...)
}
