package packet

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// IPv6Packet is an IPv6 packet without extension headers in an Ethernet frame (RFC 8200).
type IPv6Packet struct {
	SrcMAC, DstMAC net.HardwareAddr
	Src, Dst       netip.Addr
	Protocol       byte // 17 UDP, 58 ICMPv6
	HopLimit       byte
	Payload        []byte
}

// ParseIPv6 reads a packet. It returns false for one with extension headers or cut off. The
// MACs and the payload share memory with the frame. It ignores checksums, as ParseDatagram
// does.
func ParseIPv6(b []byte) (IPv6Packet, bool) {
	if len(b) < EtherLen+ipv6Len || binary.BigEndian.Uint16(b[12:]) != IPv6 || b[EtherLen]>>4 != 6 {
		return IPv6Packet{}, false
	}
	ip := b[EtherLen:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	if length > len(ip)-ipv6Len || ip[6] != unix.IPPROTO_UDP && ip[6] != unix.IPPROTO_ICMPV6 {
		return IPv6Packet{}, false
	}
	return IPv6Packet{
		SrcMAC: net.HardwareAddr(b[6:12]), DstMAC: net.HardwareAddr(b[0:6]),
		Src: netip.AddrFrom16([16]byte(ip[8:24])), Dst: netip.AddrFrom16([16]byte(ip[24:40])),
		Protocol: ip[6], HopLimit: ip[7], Payload: ip[ipv6Len : ipv6Len+length],
	}, true
}

// ParseDatagramIPv6 reads a UDP datagram as ParseIPv6 does.
func ParseDatagramIPv6(b []byte) (Datagram, bool) {
	p, ok := ParseIPv6(b)
	if !ok || p.Protocol != unix.IPPROTO_UDP || len(p.Payload) < udpLen {
		return Datagram{}, false
	}
	length := int(binary.BigEndian.Uint16(p.Payload[4:]))
	if length < udpLen || length > len(p.Payload) {
		return Datagram{}, false
	}
	return Datagram{
		SrcMAC: p.SrcMAC, DstMAC: p.DstMAC, Src: p.Src, Dst: p.Dst,
		SrcPort: binary.BigEndian.Uint16(p.Payload), DstPort: binary.BigEndian.Uint16(p.Payload[2:]),
		Payload: p.Payload[udpLen:length],
	}, true
}

// Frame returns the packet as a frame. It fills in the checksum of UDP or ICMPv6, which IPv6
// does not do without (RFC 8200, section 8.1).
func (p IPv6Packet) Frame() []byte {
	b := make([]byte, EtherLen+ipv6Len+len(p.Payload))
	copy(b, p.DstMAC)
	copy(b[6:], p.SrcMAC)
	binary.BigEndian.PutUint16(b[12:], IPv6)
	ip := b[EtherLen:]
	ip[0], ip[6], ip[7] = 0x60, p.Protocol, p.HopLimit
	binary.BigEndian.PutUint16(ip[4:], uint16(len(p.Payload)))
	src, dst := p.Src.As16(), p.Dst.As16()
	copy(ip[8:], src[:])
	copy(ip[24:], dst[:])
	payload := ip[ipv6Len:]
	copy(payload, p.Payload)
	at := 2 // of ICMPv6
	if p.Protocol == unix.IPPROTO_UDP {
		at = 6
	}
	if len(payload) < at+2 {
		return b
	}
	payload[at], payload[at+1] = 0, 0
	c := checksum(payload, sum(ip[8:40], uint32(p.Protocol)+uint32(len(payload))))
	if c == 0 && p.Protocol == unix.IPPROTO_UDP {
		c = 0xffff // 0 is not allowed
	}
	binary.BigEndian.PutUint16(payload[at:], c)
	return b
}

// FrameIPv6 returns a datagram between IPv6 addresses as a frame, with its checksum.
func (d Datagram) FrameIPv6() []byte {
	payload := make([]byte, udpLen, udpLen+len(d.Payload))
	binary.BigEndian.PutUint16(payload, d.SrcPort)
	binary.BigEndian.PutUint16(payload[2:], d.DstPort)
	binary.BigEndian.PutUint16(payload[4:], uint16(udpLen+len(d.Payload)))
	return IPv6Packet{
		SrcMAC: d.SrcMAC, DstMAC: d.DstMAC, Src: d.Src, Dst: d.Dst,
		Protocol: unix.IPPROTO_UDP, HopLimit: 64, Payload: append(payload, d.Payload...),
	}.Frame()
}

// MulticastMAC is the MAC of an IPv6 multicast address (RFC 2464, section 7).
func MulticastMAC(group netip.Addr) net.HardwareAddr {
	b := group.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// EUI64 is the address of a prefix of 64 bits that a MAC has by itself (RFC 4291, appendix A).
func EUI64(prefix netip.Prefix, mac net.HardwareAddr) netip.Addr {
	a := prefix.Masked().Addr().As16()
	copy(a[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(a)
}

// LinkLocal is the prefix of link-local addresses as interfaces have them (RFC 4291, 2.5.6).
var LinkLocal = netip.MustParsePrefix("fe80::/64")

// ConfigurationOf is a filter that passes what guests ask a network's host for over IPv6: router
// solicitations, and DHCPv6 to a port. It is for a socket that listens for IPv6, which sees
// nothing that the host sends.
//
//	tcpdump -dd "icmp6[0] = 133 or (ip6[6] = 17 and ip6[42:2] = PORT)"
func ConfigurationOf(port uint16) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: EtherLen + 6, Size: 1}, // next header
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: EtherLen + ipv6Len, Size: 1}, // type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: routerSolicitation, SkipTrue: 3, SkipFalse: 2},
		bpf.LoadAbsolute{Off: EtherLen + ipv6Len + 2, Size: 2}, // destination port
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	}
}
