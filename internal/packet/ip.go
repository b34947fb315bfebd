package packet

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// IP is an IPv4 packet in an Ethernet frame, whole or a first fragment.
type IP struct {
	SrcMAC, DstMAC net.HardwareAddr
	Src, Dst       netip.Addr
	Protocol       byte // 1 ICMP, 6 TCP, 17 UDP
	DontFragment   bool
	Payload        []byte // with its own checksum
}

// ParseIP reads an IPv4 packet. It ignores the checksums, as ParseDatagram does.
func ParseIP(b []byte) (IP, bool) {
	if len(b) < EtherLen+ipLen || binary.BigEndian.Uint16(b[12:]) != 0x0800 {
		return IP{}, false
	}
	p, ok := ParseIPHeader(b[EtherLen:])
	p.DstMAC, p.SrcMAC = net.HardwareAddr(b[0:6]), net.HardwareAddr(b[6:12])
	return p, ok
}

// ParseIPHeader reads a packet without its frame, as ICMP errors quote it (RFC 792):
// the payload may be cut off.
func ParseIPHeader(b []byte) (IP, bool) {
	if len(b) < ipLen || b[0]>>4 != 4 {
		return IP{}, false
	}
	header, total := int(b[0]&0x0f)*4, int(binary.BigEndian.Uint16(b[2:]))
	total = min(total, len(b))
	if header < ipLen || total < header || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return IP{}, false
	}
	return IP{
		Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20])),
		Protocol: b[9], DontFragment: b[6]&0x40 != 0, Payload: b[header:total],
	}, true
}

// Frame returns the packet as a frame, with its header's checksum.
func (p IP) Frame() []byte {
	b := make([]byte, EtherLen+ipLen+len(p.Payload))
	copy(b, p.DstMAC)
	copy(b[6:], p.SrcMAC)
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[EtherLen:]
	ip[0], ip[8], ip[9] = 0x45, 64, p.Protocol
	if p.DontFragment {
		ip[6] = 0x40
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	src, dst := p.Src.As4(), p.Dst.As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipLen], 0))
	copy(ip[ipLen:], p.Payload)
	return b
}

// TransportChecksum returns the checksum of TCP or UDP over the packet's payload, whose
// own checksum field must be zero (RFC 9293, section 3.1).
func (p IP) TransportChecksum() uint16 {
	src, dst := p.Src.As4(), p.Dst.As4()
	return checksum(p.Payload, sum(src[:], sum(dst[:], uint32(p.Protocol)+uint32(len(p.Payload)))))
}
