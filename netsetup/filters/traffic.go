package filters

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Traffic is the packets that an accept lets pass: those that every set field holds for.
type Traffic struct {
	In, Out         string // links; "" is any
	PortIn, PortOut string // how the names of ports of a bridge begin; "" is any
	Src, Dst        netip.Prefix
	Proto           byte   // TCP, UDP, or ICMP or ICMPv6, of which it is one type alone; 0 is any
	Kind            byte   // the type of ICMPv6, 0 for echo requests, as of ICMP
	Port            uint16 // the destination, of TCP and UDP; 0 is any
	Established     bool   // only replies, and what belongs to their connection
	DNAT            bool   // only what a rule gave this destination
}

// dnatSpec is the condition of Traffic.DNAT, as iptables-save lists it.
const dnatSpec = "-m conntrack --ctstate DNAT"

// spec is an accept of the traffic as iptables-save lists it, with the mark of the network.
func (t Traffic) spec(network string) string {
	var words []string
	add := func(set bool, text string) {
		if set {
			words = append(words, text)
		}
	}
	add(t.Src.IsValid(), "-s "+t.Src.String())
	add(t.Dst.IsValid(), "-d "+t.Dst.String())
	add(t.In != "", "-i "+t.In)
	add(t.Out != "", "-o "+t.Out)
	proto := ProtocolText(t.Proto)
	add(t.Proto != 0, "-p "+proto)
	add(t.Port != 0, fmt.Sprintf("-m %s --dport %d", proto, t.Port))
	add(t.Proto == ICMP, fmt.Sprintf("-m icmp --icmp-type %d", echoRequest))
	add(t.Proto == ICMPv6, fmt.Sprintf("-m icmp6 --icmpv6-type %d", t.kind6()))
	add(t.PortIn != "", "-m physdev --physdev-in "+t.PortIn+"+ --physdev-is-bridged")
	add(t.PortOut != "", "-m physdev --physdev-out "+t.PortOut+"+ --physdev-is-bridged")
	add(t.Established, "-m conntrack --ctstate RELATED,ESTABLISHED")
	add(t.DNAT, dnatSpec)
	return strings.Join(append(words, `-m comment --comment "`+Mark(network)+`"`, "-j ACCEPT"), " ")
}

// nft is an accept of the traffic as nft(8) reads it.
func (t Traffic) nft() string {
	var words []string
	add := func(set bool, format string, v any) {
		if set {
			words = append(words, fmt.Sprintf(format, v))
		}
	}
	add(t.In != "", "iifname %q", t.In)
	add(t.Out != "", "oifname %q", t.Out)
	family := pick(t.Src.Addr().Is6() || t.Dst.Addr().Is6(), nft.IP6, nft.IP)
	add(t.Src.IsValid(), string(family)+" saddr %s", t.Src)
	add(t.Dst.IsValid(), string(family)+" daddr %s", addressText(t.Dst))
	add(t.Proto == ICMP, "icmp type %s", "echo-request")
	add(t.Proto == ICMPv6, "icmpv6 type %d", t.kind6())
	add(t.Port != 0, ProtocolText(t.Proto)+" dport %d", t.Port)
	add(t.Established, "ct state %s", "established,related")
	add(t.DNAT, "ct status %s", "dnat")
	return strings.Join(append(words, "accept"), " ")
}

// kind6 is the type of ICMPv6.
func (t Traffic) kind6() byte { return pick(t.Kind != 0, t.Kind, echoRequest6) }

func addressText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// matches are the conditions of an accept of the traffic.
func (t Traffic) matches(f nft.Family) []Match {
	var list []Match
	one := func(set bool, field Field, v []byte) {
		if set {
			list = append(list, Match{Fields: []Field{field}, Any: []Range{{v, v}}})
		}
	}
	one(t.In != "", Field{Name: InLink, Len: 16}, LinkName(t.In))
	one(t.Out != "", Field{Name: OutLink, Len: 16}, LinkName(t.Out))
	one(t.PortIn != "", Field{Name: PortIn, Len: 16}, []byte(t.PortIn))
	one(t.PortOut != "", Field{Name: PortOut, Len: 16}, []byte(t.PortOut))
	switch f {
	case nft.IP:
		list = append(append(list, prefixMatch(t.Src, 12)...), prefixMatch(t.Dst, 16)...)
	case nft.IP6:
		list = append(append(list, prefixMatch(t.Src, 8)...), prefixMatch(t.Dst, 24)...)
	}
	one(t.Proto != 0, Field{Name: L4Proto, Len: 1}, []byte{t.Proto})
	one(t.Port != 0, Field{Header: TransportHeader, Offset: 2, Len: 2}, binary.BigEndian.AppendUint16(nil, t.Port))
	one(t.Proto == ICMP, Field{Header: TransportHeader, Len: 1}, []byte{echoRequest})
	one(t.Proto == ICMPv6, Field{Header: TransportHeader, Len: 1}, []byte{t.kind6()})
	if t.Established {
		list = append(list, AnyBit(CTState, StateEstablished|StateRelated, false))
	}
	if t.DNAT {
		list = append(list, AnyBit(CTState, StateDNAT, false))
	}
	return list
}

func prefixMatch(p netip.Prefix, offset int) []Match {
	if !p.IsValid() {
		return nil
	}
	v := p.Masked().Addr().AsSlice()
	mask := make([]byte, len(v))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []Match{{Fields: []Field{{Header: NetworkHeader, Offset: offset, Len: len(v)}}, Mask: mask, Any: []Range{{v, v}}}}
}
