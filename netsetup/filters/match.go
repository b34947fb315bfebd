package filters

import (
	"bytes"
	"strconv"
)

// Match is one condition of a rule: the value of a field, masked, lies in one of the
// ranges. Several fields are compared together, as one value.
type Match struct {
	Fields []Field `json:"fields,omitempty"` // none: package read does not understand the condition
	Mask   []byte  `json:"mask,omitempty"`   // of a single field
	Any    []Range `json:"any,omitempty"`    // none: no value matches
	Not    bool    `json:"not,omitempty"`
}

// Range holds the values from Low to High, both included, in the byte order of the
// packet. Each of several fields begins at a multiple of 4 bytes. The comparison covers
// as many bytes of a field as Low has.
type Range struct {
	Low  []byte `json:"low"`
	High []byte `json:"high"`
}

// Field is a property of a packet by name, or a piece of one of its headers.
type Field struct {
	Name   string `json:"name,omitempty"`
	Header Header `json:"header,omitempty"`
	Offset int    `json:"offset,omitempty"` // bytes
	Len    int    `json:"len"`              // bytes; of a name as many as the engine compares
}

// Header is where a Field's Offset counts from, as nft(8) spells it.
type Header string

// The headers.
const (
	LinkHeader      Header = "ll"
	NetworkHeader   Header = "nh"
	TransportHeader Header = "th"
)

// Names of fields, most of them as nft(8) spells them.
const (
	InLink    = "iifname"
	OutLink   = "oifname"
	L4Proto   = "meta l4proto"
	NFProto   = "meta nfproto" // 2 for IPv4, 10 for IPv6
	EtherType = "meta protocol"
	MetaMark  = "meta mark"
	CTMark    = "ct mark"
	CTState   = "ct state"  // the bits below, in the host's byte order
	CTStatus  = "ct status" // linux/netfilter/nf_conntrack_common.h
	PktType   = "meta pkttype"
	SrcType   = "fib saddr type" // linux/rtnetlink.h, RTN_*
	DstType   = "fib daddr type"
	SrcRoute  = "fib saddr oif" // 0 where the source has no route back
	Bridged   = "physdev is bridged"
	PortIn    = "physdev in" // the port of the bridge, in the chains of ip and ip6
	PortOut   = "physdev out"
)

// Bits of "ct state": those of NF_CT_STATE_BIT, and above them the states that iptables
// alone has.
const (
	StateInvalid     = 1
	StateEstablished = 2
	StateRelated     = 4
	StateNew         = 8
	StateUntracked   = 64
	StateSNAT        = 1 << 16
	StateDNAT        = 1 << 17
)

// tri says whether a rule matches.
type tri int

const (
	no tri = iota
	maybe
	yes
)

func triOf(b bool) tri {
	if b {
		return yes
	}
	return no
}

// holds reports whether the condition holds for the packet.
func (m Match) holds(p *Packet) tri {
	if len(m.Fields) == 0 {
		return maybe
	}
	values := make([][]byte, len(m.Fields))
	for i, f := range m.Fields {
		v, known := p.value(f)
		if !known {
			return maybe
		}
		values[i] = v
	}
	if m.Mask != nil {
		values[0] = masked(values[0], m.Mask)
	}
	for _, r := range m.Any {
		if r.holds(values, m.Fields) {
			return triOf(!m.Not)
		}
	}
	return triOf(m.Not)
}

func masked(v, mask []byte) []byte {
	out := make([]byte, min(len(v), len(mask)))
	for i := range out {
		out[i] = v[i] & mask[i]
	}
	return out
}

func (r Range) holds(values [][]byte, fields []Field) bool {
	at := 0
	for i, v := range values {
		if at >= len(r.Low) {
			return false
		}
		width := fields[i].Len
		if len(values) == 1 {
			width = len(r.Low) // the rule may give the beginning of a name
		}
		low, high := slice(r.Low, at, width), slice(r.High, at, width)
		v = v[:min(len(v), len(low))]
		if bytes.Compare(v, low) < 0 || bytes.Compare(v, high) > 0 {
			return false
		}
		at += (width + 3) &^ 3
	}
	return true
}

func slice(b []byte, at, width int) []byte {
	return b[min(at, len(b)):min(at+width, len(b))]
}

// AnyBit is the condition that any of the mask's bits is set in the field, or that
// none of them is.
func AnyBit(name string, mask uint32, none bool) Match {
	return Match{Fields: []Field{{Name: name, Len: 4}}, Mask: native(mask), Any: []Range{{native(0), native(0)}}, Not: !none}
}

// String names the field as nft(8) does.
func (f Field) String() string {
	if f.Name != "" {
		return f.Name
	}
	if name := headerNames[f]; name != "" {
		return name
	}
	return "@" + string(f.Header) + "," + strconv.Itoa(8*f.Offset) + "," + strconv.Itoa(8*f.Len)
}

// headerNames are the names that nft(8) gives to common fields of headers. No field of
// IPv4 has the place of one of IPv6.
var headerNames = map[Field]string{
	{Header: NetworkHeader, Offset: 12, Len: 4}:   "ip saddr",
	{Header: NetworkHeader, Offset: 16, Len: 4}:   "ip daddr",
	{Header: NetworkHeader, Offset: 9, Len: 1}:    "ip protocol",
	{Header: NetworkHeader, Offset: 8, Len: 16}:   "ip6 saddr",
	{Header: NetworkHeader, Offset: 24, Len: 16}:  "ip6 daddr",
	{Header: TransportHeader, Offset: 0, Len: 2}:  "th sport",
	{Header: TransportHeader, Offset: 2, Len: 2}:  "th dport",
	{Header: TransportHeader, Offset: 0, Len: 1}:  "icmp type",
	{Header: TransportHeader, Offset: 13, Len: 1}: "tcp flags",
	{Header: LinkHeader, Offset: 12, Len: 2}:      "ether type",
}
