package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	serverPort = 67
	clientPort = 68

	etherLen = 14
	ipLen    = 20
	udpLen   = 8
)

var etherBroadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// datagram is a UDP datagram in an Ethernet frame.
type datagram struct {
	srcMAC, dstMAC   net.HardwareAddr
	src, dst         netip.Addr
	srcPort, dstPort uint16
	payload          []byte
}

// parseFrame reads an IPv4 UDP datagram. Checksums are not looked at: a guest's
// virtio NIC leaves them to the host, which never fills them in for a packet socket.
func parseFrame(b []byte) (datagram, bool) {
	var d datagram
	if len(b) < etherLen+ipLen+udpLen || binary.BigEndian.Uint16(b[12:]) != 0x0800 {
		return d, false
	}
	ip := b[etherLen:]
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
	d.dstMAC, d.srcMAC = net.HardwareAddr(b[0:6]), net.HardwareAddr(b[6:12])
	d.src, d.dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	d.srcPort, d.dstPort = binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
	d.payload = udp[udpLen:length]
	return d, true
}

// frame writes the datagram with both checksums, because nobody after us would
// fill them in, and old clients drop what lacks them (failure F30).
func (d datagram) frame() []byte {
	b := make([]byte, etherLen+ipLen+udpLen+len(d.payload))
	copy(b, d.dstMAC)
	copy(b[6:], d.srcMAC)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[etherLen:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	ip[1] = 0x10 // low delay, as DHCP servers do
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	src, dst := d.src.As4(), d.dst.As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipLen], 0))
	udp := ip[ipLen:]
	binary.BigEndian.PutUint16(udp, d.srcPort)
	binary.BigEndian.PutUint16(udp[2:], d.dstPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	copy(udp[udpLen:], d.payload)
	// The pseudo header of RFC 768: addresses, protocol and length.
	pseudo := sum(ip[12:20], 17+uint32(len(udp)))
	c := checksum(udp, pseudo)
	if c == 0 {
		c = 0xffff // 0 means "none"
	}
	binary.BigEndian.PutUint16(udp[6:], c)
	return b
}

func sum(b []byte, start uint32) uint32 {
	for ; len(b) > 1; b = b[2:] {
		start += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		start += uint32(b[0]) << 8
	}
	return start
}

// checksum is RFC 1071's.
func checksum(b []byte, start uint32) uint16 {
	s := sum(b, start)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}
