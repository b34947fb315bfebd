package nft

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// field is where a frame has a Field.
type field struct {
	base   expr.PayloadBase
	offset uint32
	size   uint32 // bytes
}

// fields are those within a header: Ethernet, ARP (RFC 826), IPv4 (RFC 791), IPv6 (RFC
// 8200), UDP (RFC 768), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861).
var fields = map[Field]field{
	EtherDest:      {expr.PayloadBaseLLHeader, 0, 6},
	EtherSource:    {expr.PayloadBaseLLHeader, 6, 6},
	EtherType:      {expr.PayloadBaseLLHeader, 12, 2},
	ARPHardware:    {expr.PayloadBaseNetworkHeader, 0, 2},
	ARPProtocol:    {expr.PayloadBaseNetworkHeader, 2, 2},
	ARPHardwareLen: {expr.PayloadBaseNetworkHeader, 4, 1},
	ARPProtocolLen: {expr.PayloadBaseNetworkHeader, 5, 1},
	ARPSenderMAC:   {expr.PayloadBaseNetworkHeader, 8, 6},
	ARPSenderIP:    {expr.PayloadBaseNetworkHeader, 14, 4},
	IPSource:       {expr.PayloadBaseNetworkHeader, sourceOffset, 4},
	IPDest:         {expr.PayloadBaseNetworkHeader, destOffset, 4},
	IP6Source:      {expr.PayloadBaseNetworkHeader, 8, 16},
	IP6Dest:        {expr.PayloadBaseNetworkHeader, 24, 16},
	DestPort:       {expr.PayloadBaseTransportHeader, 2, 2},
	ICMPType:       {expr.PayloadBaseTransportHeader, 0, 1},
	UDPSource:      {expr.PayloadBaseTransportHeader, 0, 2},
	UDPDest:        {expr.PayloadBaseTransportHeader, 2, 2},
	ICMPv6Type:     {expr.PayloadBaseTransportHeader, 0, 1},
	NDTarget:       {expr.PayloadBaseTransportHeader, 8, 16},
	NDTargetPrefix: {expr.PayloadBaseTransportHeader, 8, 8},
	NDTargetHigh:   {expr.PayloadBaseTransportHeader, 16, 4},
	NDTargetMiddle: {expr.PayloadBaseTransportHeader, 19, 2},
	IP6Any:         {expr.PayloadBaseNetworkHeader, 8, 16},
}

// load returns the expressions that load the field into register 1, and its size in bytes.
func (f Field) load() (es []expr.Any, size int) {
	switch f {
	case Protocol:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}}, 2
	case IPVersion:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}}, 1
	case Transport:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}}, 1
	case FragmentOffset: // 13 bits in front of three others
		return []expr.Any{
			&expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xf8}, Xor: []byte{0, 0}},
		}, 2
	}
	in := fields[f]
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: in.base, Offset: in.offset, Len: in.size}}, int(in.size)
}

// matchExprs turns a match into expressions. Several values are an anonymous set.
func (c *Conn) matchExprs(table *nftables.Table, m Match) ([]expr.Any, error) {
	es, size := m.Field.load()
	if name, isSet := strings.CutPrefix(m.Values[0], "@"); isSet {
		return append(es, &expr.Lookup{SourceRegister: 1, SetName: name, Invert: m.Op == "!="}), nil
	}
	values := make([][]byte, len(m.Values))
	for i, v := range m.Values {
		var err error
		if values[i], err = encodeValue(v, size); err != nil {
			return nil, fmt.Errorf("match %s: %w", m.Field, err)
		}
	}
	if len(values) == 1 {
		op := map[string]expr.CmpOp{"": expr.CmpOpEq, "!=": expr.CmpOpNeq, "<": expr.CmpOpLt}[m.Op]
		return append(es, &expr.Cmp{Op: op, Register: 1, Data: values[0]}), nil
	}
	set := &nftables.Set{Table: table, Anonymous: true, Constant: true, KeyType: m.Field.keyType()}
	elements := make([]nftables.SetElement, len(values))
	for i, v := range values {
		elements[i].Key = v
	}
	if err := c.lib.AddSet(set, elements); err != nil {
		return nil, fmt.Errorf("match %s: %w", m.Field, err)
	}
	return append(es, &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: m.Op == "!="}), nil
}

// keyType is the type of a set of the field's values.
func (f Field) keyType() nftables.SetDatatype {
	switch f {
	case Protocol:
		return nftables.TypeEtherType
	case ARPSenderIP, IPSource, IPDest:
		return nftables.TypeIPAddr
	case IP6Source, IP6Dest:
		return nftables.TypeIP6Addr
	case Transport:
		return nftables.TypeInetProto
	case UDPSource, UDPDest, DestPort:
		return nftables.TypeInetService
	case ICMPv6Type:
		return nftables.TypeICMP6Type
	}
	panic("nft: no set of values of " + string(f))
}
