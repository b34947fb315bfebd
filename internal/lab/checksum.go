package lab

import "encoding/binary"

// Checksums reports whether both checksums of a frame with an IPv4 UDP datagram are
// right: the header's (RFC 791) and the datagram's (RFC 768). The header has no options.
func Checksums(frame []byte) bool {
	const ether, header = 14, 20
	if len(frame) < ether+header+8 {
		return false
	}
	ip := frame[ether:]
	udp := ip[header:]
	pseudo := append([]byte{0, 17, byte(len(udp) >> 8), byte(len(udp))}, ip[12:20]...)
	return onesComplement(ip[:header]) == 0xffff && onesComplement(append(pseudo, udp...)) == 0xffff
}

// onesComplement is the sum of RFC 1071.
func onesComplement(b []byte) uint32 {
	var s uint32
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	for ; len(b) > 0; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return s
}
