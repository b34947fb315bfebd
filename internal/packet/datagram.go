package packet

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Lengths of headers without options.
const (
	EtherLen = 14
	ipLen    = 20
	udpLen   = 8
)

// Broadcast is the Ethernet broadcast address.
var Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Datagram is a UDP datagram in an Ethernet frame.
type Datagram struct {
	SrcMAC, DstMAC   net.HardwareAddr
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Payload          []byte
}

// ParseDatagram reads an IPv4 UDP datagram that is no fragment. It ignores the
// checksums: a guest's virtio NIC leaves them to the host, and the host never fills
// them in for a packet socket.
func ParseDatagram(b []byte) (Datagram, bool) {
	var d Datagram
	if len(b) < EtherLen+ipLen+udpLen || binary.BigEndian.Uint16(b[12:]) != 0x0800 {
		return d, false
	}
	ip := b[EtherLen:]
	header, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || header < ipLen || total > len(ip) || total < header+udpLen || ip[9] != 17 {
		return d, false
	}
	if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 { // a fragment
		return d, false
	}
	udp := ip[header:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpLen || length > len(udp) {
		return d, false
	}
	d.DstMAC, d.SrcMAC = net.HardwareAddr(b[0:6]), net.HardwareAddr(b[6:12])
	d.Src, d.Dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	d.SrcPort, d.DstPort = binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
	d.Payload = udp[udpLen:length]
	return d, true
}

// Frame returns the datagram as a frame with both checksums. The kernel does not fill
// them in for a packet socket, and old clients drop datagrams without (failure F30).
func (d Datagram) Frame() []byte {
	b := make([]byte, EtherLen+ipLen+udpLen+len(d.Payload))
	copy(b, d.DstMAC)
	copy(b[6:], d.SrcMAC)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[EtherLen:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	ip[1] = 0x10 // low delay, as DHCP servers do
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	src, dst := d.Src.As4(), d.Dst.As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipLen], 0))
	udp := ip[ipLen:]
	binary.BigEndian.PutUint16(udp, d.SrcPort)
	binary.BigEndian.PutUint16(udp[2:], d.DstPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[udpLen:], d.Payload)
	c := checksum(udp, pseudo(ip, len(udp)))
	if c == 0 {
		c = 0xffff // 0 means "none"
	}
	binary.BigEndian.PutUint16(udp[6:], c)
	return b
}

// pseudo sums the pseudo header of RFC 768: addresses, protocol and length of UDP.
func pseudo(ip []byte, length int) uint32 { return sum(ip[12:20], 17+uint32(length)) }

// sum adds the 16-bit words of b to start.
func sum(b []byte, start uint32) uint32 {
	for ; len(b) > 1; b = b[2:] {
		start += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		start += uint32(b[0]) << 8
	}
	return start
}

// checksum is the Internet checksum of RFC 1071, begun with start.
func checksum(b []byte, start uint32) uint16 {
	s := sum(b, start)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
