package guest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/qnet-vm/qnet/internal/packet"
)

// Protocols of a Flow: numbers of RFC 790, and ARP, which is none of IP.
const (
	ICMP = 1
	TCP  = 6
	UDP  = 17
	ARP  = 0
)

const (
	etherARP   = 0x0806
	arpRequest = 1
	arpReply   = 2
)

// arp is RFC 826's packet for IPv4 on Ethernet.
type arp struct {
	op                   uint16
	senderMAC, targetMAC net.HardwareAddr // targetMAC is nil in a request
	sender, target       netip.Addr
}

func (a arp) frame() []byte {
	to := a.targetMAC
	if to == nil {
		to = packet.Broadcast
	}
	b := append(append([]byte{}, to...), a.senderMAC...)
	b = binary.BigEndian.AppendUint16(b, etherARP)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, a.op)
	b = append(append(b, a.senderMAC...), a.sender.AsSlice()...)
	if a.targetMAC == nil {
		return append(append(b, make([]byte, 6)...), a.target.AsSlice()...)
	}
	return append(append(b, a.targetMAC...), a.target.AsSlice()...)
}

func parseARP(b []byte) (arp, bool) {
	if len(b) < packet.EtherLen+28 || binary.BigEndian.Uint16(b[12:]) != etherARP {
		return arp{}, false
	}
	b = b[packet.EtherLen:]
	return arp{
		op: binary.BigEndian.Uint16(b[6:]), senderMAC: net.HardwareAddr(b[8:14]), sender: netip.AddrFrom4([4]byte(b[14:18])),
		targetMAC: net.HardwareAddr(b[18:24]), target: netip.AddrFrom4([4]byte(b[24:28])),
	}, true
}

// Flow is what tells the packets of one exchange from others: the addresses of the
// packet that the guest sent.
type Flow struct {
	Src, Dst netip.Addr
	Protocol byte
	ID       uint16 // the identifier of an ICMP echo, or the source port
	Port     uint16 // the destination port
}

// String is the flow in words: "tcp to 203.0.113.1:80".
func (f Flow) String() string {
	switch f.Protocol {
	case ARP:
		return fmt.Sprintf("who has %s", f.Dst)
	case TCP:
		return fmt.Sprintf("tcp to %s:%d", f.Dst, f.Port)
	case UDP:
		return fmt.Sprintf("udp to %s:%d", f.Dst, f.Port)
	}
	return fmt.Sprintf("ping to %s", f.Dst)
}

// FlowOf reads the flow of a packet. Eight bytes of its payload are enough, as ICMP
// errors and traces quote them.
func FlowOf(p packet.IP) Flow {
	f := Flow{Src: p.Src, Dst: p.Dst, Protocol: p.Protocol}
	if len(p.Payload) < 8 {
		return f
	}
	switch p.Protocol {
	case ICMP:
		f.ID = binary.BigEndian.Uint16(p.Payload[4:])
	case TCP, UDP:
		f.ID, f.Port = binary.BigEndian.Uint16(p.Payload), binary.BigEndian.Uint16(p.Payload[2:])
	}
	return f
}

// ICMPError is an ICMP error that arrived in place of a reply.
type ICMPError struct {
	Flow       Flow // of the packet that caused it
	From       netip.Addr
	Type, Code byte
	MTU        int // in bytes, in "fragmentation needed"
}

// Error has the words of ping(8).
func (e *ICMPError) Error() string {
	text := fmt.Sprintf("ICMP type %d code %d", e.Type, e.Code)
	switch {
	case e.Type == 3 && e.Code == 4:
		text = fmt.Sprintf("fragmentation needed, mtu %d", e.MTU)
	case e.Type == 3 && int(e.Code) < len(unreachable) && unreachable[e.Code] != "":
		text = unreachable[e.Code]
	case e.Type == 11:
		text = "time to live exceeded"
	}
	return fmt.Sprintf("%s says: %s", e.From, text)
}

// unreachable are the codes of type 3 (RFC 792; RFC 1812, section 5.2.7.1).
var unreachable = [...]string{
	0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
	9: "network administratively prohibited", 10: "host administratively prohibited", 13: "communication administratively prohibited",
}

// icmpErrorOf reads an ICMP error about a flow; nil for another packet.
func icmpErrorOf(p packet.IP, f Flow) *ICMPError {
	if p.Protocol != ICMP || len(p.Payload) < 8 {
		return nil
	}
	kind := p.Payload[0]
	if kind != 3 && kind != 11 && kind != 12 {
		return nil
	}
	quoted, ok := packet.ParseIPHeader(p.Payload[8:])
	if !ok || FlowOf(quoted) != f {
		return nil
	}
	return &ICMPError{Flow: f, From: p.Src, Type: kind, Code: p.Payload[1], MTU: int(binary.BigEndian.Uint16(p.Payload[6:]))}
}

// EchoRequest is an ICMP echo request with size bytes of data.
func EchoRequest(id, seq uint16, size int) []byte {
	return packet.Echo{ID: id, Seq: seq, Data: make([]byte, size)}.Message()
}

// echoReply is the reply to an echo request; nil for another packet.
func echoReply(p packet.IP) []byte {
	echo, ok := packet.ParseEcho(p.Payload)
	if !ok || echo.Reply {
		return nil
	}
	echo.Reply = true
	return packet.IP{SrcMAC: p.DstMAC, DstMAC: p.SrcMAC, Src: p.Dst, Dst: p.Src, Protocol: ICMP, Payload: echo.Message()}.Frame()
}

// TCP flags (RFC 9293, section 3.1).
const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10
)

// segment is a TCP segment without data.
type segment struct {
	from, to  uint16
	seq, ack  uint32
	flags     byte
	maxLength uint16 // option MSS; 0 without it
}

// packet is an IP packet that has its addresses, with the segment in it.
func (s segment) packet(p packet.IP) packet.IP {
	b := binary.BigEndian.AppendUint16(nil, s.from)
	b = binary.BigEndian.AppendUint16(b, s.to)
	b = binary.BigEndian.AppendUint32(b, s.seq)
	b = binary.BigEndian.AppendUint32(b, s.ack)
	words := byte(5)
	if s.maxLength != 0 {
		words++
	}
	b = append(b, words<<4, s.flags, 0xff, 0xff, 0, 0, 0, 0)
	if s.maxLength != 0 {
		b = binary.BigEndian.AppendUint16(append(b, 2, 4), s.maxLength)
	}
	p.Protocol, p.Payload = TCP, b
	binary.BigEndian.PutUint16(b[16:], p.TransportChecksum())
	return p
}

func parseSegment(p packet.IP) (segment, bool) {
	b := p.Payload
	if p.Protocol != TCP || len(b) < 20 {
		return segment{}, false
	}
	s := segment{
		from: binary.BigEndian.Uint16(b), to: binary.BigEndian.Uint16(b[2:]),
		seq: binary.BigEndian.Uint32(b[4:]), ack: binary.BigEndian.Uint32(b[8:]), flags: b[13],
	}
	end := min(int(b[12]>>4)*4, len(b))
	for o := 20; o+1 < end && b[o] != 0; {
		if b[o] == 1 {
			o++
			continue
		}
		if b[o] == 2 && o+4 <= end {
			s.maxLength = binary.BigEndian.Uint16(b[o+2:])
		}
		o += max(int(b[o+1]), 2)
	}
	return s, true
}
