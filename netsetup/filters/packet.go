package filters

import (
	"encoding/binary"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// IP protocol numbers.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// echoRequest is the type of ICMP that a ping sends (RFC 792).
const echoRequest = 8

// Types of ICMPv6 (RFC 4443, RFC 4861).
const (
	echoRequest6      = 128
	neighborSolicit   = 135
	neighborAdvertise = 136
)

// Packet is a packet on its way through the host, with what rules may ask of it.
type Packet struct {
	// Name says to a user what the packet is: "what guests send to the host".
	Name  string
	Reply bool // it is the reply to the packet of that name
	Path  []Stage
	In    string // the link it came in by, "" if the host sent it
	Out   string // the link it leaves by, "" if the host takes it
	// PortIn and PortOut are the ports of the bridge, "" if unknown.
	PortIn, PortOut string
	Src, Dst        netip.Addr // Dst is not valid if it is unknown
	Proto           byte
	Kind            byte // type of ICMPv6; 0 is an echo request, or its reply
	Sport, Dport    uint16
	Established     bool // by a connection that is tracked; otherwise its first packet
	Untracked       bool // a rule keeps it from being tracked: it belongs to no connection
	SrcLocal        bool // the source is an address of the host
	DstLocal        bool
	DNAT            bool // a rule of qnet's gave its connection this destination

	// Passes is the least traffic that a chain must accept to let pass this packet and
	// those it stands for.
	Passes []Traffic

	ports bool // In and Out are ports of a bridge, and unknown where ""
}

// Stage is one hook on a packet's way: of family bridge, or else of ip or ip6 and inet.
type Stage struct {
	Bridge bool
	Hook   nft.Hook
}

// Types of address (linux/rtnetlink.h).
const (
	rtnUnicast = 1
	rtnLocal   = 2
)

func (p *Packet) ipv6() bool { return p.Src.Is6() }

// bridgedFrame reports whether the packet goes from one port of a bridge to another.
func (p *Packet) bridgedFrame() bool { return p.In != "" && p.In == p.Out }

// value is the value of a field, false if it is not known before the packet exists.
func (p *Packet) value(f Field) ([]byte, bool) {
	switch f.Name {
	case "":
		return p.header(f)
	case InLink, OutLink, PortIn, PortOut:
		return p.link(f.Name)
	case L4Proto:
		return []byte{p.Proto}, true
	case NFProto:
		return []byte{pick(p.ipv6(), byte(10), 2)}, true
	case EtherType:
		return binary.BigEndian.AppendUint16(nil, pick[uint16](p.ipv6(), 0x86dd, 0x0800)), true
	case MetaMark, CTMark:
		return make([]byte, 4), true
	case CTState:
		return native(p.state()), true
	case CTStatus:
		return native(p.status()), true
	case PktType:
		return []byte{0}, true // PACKET_HOST
	case SrcType:
		return native(pick[uint32](p.SrcLocal, rtnLocal, rtnUnicast)), true
	case DstType:
		return native(pick[uint32](p.DstLocal, rtnLocal, rtnUnicast)), true
	case SrcRoute:
		return native(1 << 30), true // the index of some link
	case Bridged:
		return []byte{pick(p.bridgedFrame(), byte(1), 0)}, true
	}
	return nil, false
}

// link is the value of a field that names a link.
func (p *Packet) link(name string) ([]byte, bool) {
	switch name {
	case InLink:
		return LinkName(p.In), p.In != "" || !p.ports
	case OutLink:
		return LinkName(p.Out), p.Out != "" || !p.ports
	case PortIn:
		return LinkName(p.PortIn), p.PortIn != ""
	}
	return LinkName(p.PortOut), p.PortOut != ""
}

// state is the state of the packet's connection.
func (p *Packet) state() uint32 {
	if p.Untracked {
		return StateUntracked
	}
	return pick[uint32](p.Established, StateEstablished, StateNew) | pick[uint32](p.DNAT, StateDNAT, 0)
}

// status is the status of the connection: IPS_SEEN_REPLY, ASSURED and CONFIRMED, and IPS_DST_NAT.
func (p *Packet) status() uint32 {
	return pick[uint32](p.Established && !p.Untracked, 2|4|8, 0) | pick[uint32](p.DNAT && !p.Untracked, 1<<5, 0)
}

// header is a field of the headers that the packet would have.
func (p *Packet) header(f Field) ([]byte, bool) {
	var h []byte
	switch {
	case f.Header == NetworkHeader && p.ipv6():
		h = p.ip6Header()
	case f.Header == NetworkHeader:
		h = p.ip4Header()
	case f.Header == TransportHeader:
		h = p.transportHeader()
	case f.Header == LinkHeader && f.Offset == 12 && f.Len == 2:
		return p.value(Field{Name: EtherType})
	}
	if f.Offset+f.Len > len(h) || f.IsDestination() && !p.Dst.IsValid() {
		return nil, false
	}
	return h[f.Offset : f.Offset+f.Len], true
}

// ip4Header is the header of RFC 791, without a checksum.
func (p *Packet) ip4Header() []byte {
	h := make([]byte, 20)
	h[0], h[3], h[6], h[8], h[9] = 0x45, 60, 0x40, 64, p.Proto
	copy(h[12:], p.Src.AsSlice())
	copy(h[16:], p.Dst.AsSlice())
	return h
}

// ip6Header is the header of RFC 8200.
func (p *Packet) ip6Header() []byte {
	h := make([]byte, 40)
	h[0], h[5], h[6], h[7] = 0x60, 40, p.Proto, 64
	copy(h[8:], p.Src.AsSlice())
	copy(h[24:], p.Dst.AsSlice())
	return h
}

// transportHeader holds what rules ask for: the ports and the flags of TCP, or the type
// of an echo request.
func (p *Packet) transportHeader() []byte {
	h := make([]byte, 20)
	switch p.Proto {
	case ICMP:
		h[0] = pick[byte](p.Established, 0, echoRequest)
		return h[:8]
	case ICMPv6:
		h[0] = pick(p.Kind != 0, p.Kind, pick[byte](p.Established, 129, echoRequest6))
		return h[:8]
	}
	binary.BigEndian.PutUint16(h, p.Sport)
	binary.BigEndian.PutUint16(h[2:], p.Dport)
	if p.Proto == UDP {
		return h[:8]
	}
	h[12], h[13] = 5<<4, pick[byte](p.Established, 0x12, 0x02) // SYN ACK, SYN
	return h
}

// LinkName is the name of a link as the kernel compares it: 16 bytes, filled with zeros.
func LinkName(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}
