package nft

import (
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func baseChain(table *nftables.Table, c Chain) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	if c.Policy == Drop {
		policy = nftables.ChainPolicyDrop
	}
	return &nftables.Chain{
		Name: c.Name, Table: table, Type: nftables.ChainType(c.Type),
		Hooknum:  nftables.ChainHookRef(nftables.ChainHook(c.Hook.number(FamilyOf(byte(table.Family))))),
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority)), Policy: &policy, Device: c.Device,
	}
}

// keyType is the type of the set's elements. nft(8) sends no flag for pairs either: without
// ranges they are values like others.
func (s Set) keyType() nftables.SetDatatype {
	if s.Pairs {
		return nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	}
	if s.Of != "" {
		return map[Family]nftables.SetDatatype{IP: nftables.TypeIPAddr, IP6: nftables.TypeIP6Addr}[s.Of]
	}
	return nftables.TypeIFName
}

// elements are the set's. A range of the kernel's goes from an element to the next one that is
// marked as an end, and the last may have none.
func (s Set) elements() []nftables.SetElement {
	var es []nftables.SetElement
	for _, p := range s.Prefixes {
		es = append(es, nftables.SetElement{Key: p.Masked().Addr().AsSlice()})
		if end := last(p).Next(); end.IsValid() {
			es = append(es, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	for _, l := range s.Links {
		key := ifname(l)
		if s.Pairs {
			key = append(key, key...)
		}
		es = append(es, nftables.SetElement{Key: key})
	}
	return es
}

// last is the last address of the prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// ifname returns a link name as the kernel compares it: 16 bytes, zero-padded.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// ruleExprs turns a rule into the expressions that `nft --debug=netlink` shows for its
// text.
func (c *Conn) ruleExprs(table *nftables.Table, r Rule, sets map[string]*nftables.Set) ([]expr.Any, error) {
	es := linksExprs(r, sets)
	if r.NFProto != "" {
		es = append(es, familyExprs(nfproto[r.NFProto].number)...)
	}
	if r.Source.IsValid() {
		es = append(es, addressExprs(sourceOffset, r.Source)...)
	}
	if r.Dest.IsValid() {
		es = append(es, addressExprs(destOffset, r.Dest)...)
	}
	if r.TCPUDP {
		lookup, err := c.tcpUDP(table)
		if err != nil {
			return nil, err
		}
		es = append(es, lookup...)
	}
	if r.UDPPort != 0 {
		es = append(es, udpPortExprs(r.UDPPort)...)
	}
	if r.SYN {
		es = append(es, synExprs()...)
	}
	if r.Established {
		es = append(es, establishedExprs()...)
	}
	if r.DNAT {
		es = append(es, dnatedExprs()...)
	}
	for _, m := range r.Frame {
		match, err := c.matchExprs(table, m)
		if err != nil {
			return nil, err
		}
		es = append(es, match...)
	}
	if r.Counts != "" {
		es = append(es, &expr.Counter{})
	}
	return append(es, actionExprs(r.Do)...), nil
}

func linksExprs(r Rule, sets map[string]*nftables.Set) (es []expr.Any) {
	if r.Pair {
		name := strings.TrimPrefix(r.InLink.Name, "@")
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 2}, // the registers are side by side
			&expr.Lookup{SourceRegister: 1, SetName: name, SetID: sets[name].ID},
		}
	}
	if r.InLink.Name != "" {
		es = append(es, linkExprs(expr.MetaKeyIIFNAME, r.InLink, sets)...)
	}
	if r.OutLink.Name != "" {
		es = append(es, linkExprs(expr.MetaKeyOIFNAME, r.OutLink, sets)...)
	}
	return es
}

func linkExprs(key expr.MetaKey, m LinkMatch, sets map[string]*nftables.Set) []expr.Any {
	load := &expr.Meta{Key: key, Register: 1}
	if name, isSet := strings.CutPrefix(m.Name, "@"); isSet {
		return []expr.Any{load, &expr.Lookup{SourceRegister: 1, SetName: name, SetID: sets[name].ID, Invert: m.Not}}
	}
	op := expr.CmpOpEq
	if m.Not {
		op = expr.CmpOpNeq
	}
	data := ifname(m.Name)
	if prefix, wild := strings.CutSuffix(m.Name, "*"); wild {
		data = []byte(prefix) // a shorter value matches the beginning
	}
	return []expr.Any{load, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

// Offsets in the IPv4 header (RFC 791).
const (
	sourceOffset = 12
	destOffset   = 16
)

// Offsets in the IPv6 header (RFC 8200), by those in that of IPv4.
var offsets6 = map[uint32]uint32{sourceOffset: 8, destOffset: 24}

func familyExprs(number byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

// addressExprs match the address at the offset of IPv4, or where IPv6 has it.
func addressExprs(offset uint32, p netip.Prefix) []expr.Any {
	addr := p.Masked().Addr().AsSlice()
	load := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}
	es := familyExprs(unix.NFPROTO_IPV4)
	if p.Addr().Is6() {
		es = familyExprs(unix.NFPROTO_IPV6)
		load.Offset, load.Len = offsets6[offset], 16
	}
	es = append(es, load)
	if p.Bits()%8 == 0 && p.Bits() > 0 { // nft, too, compares whole bytes without a mask
		load.Len = uint32(p.Bits() / 8)
		return append(es, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr[:load.Len]})
	}
	mask := net.CIDRMask(p.Bits(), 8*len(addr))
	return append(es,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: load.Len, Mask: mask, Xor: make([]byte, load.Len)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr})
}

func (c *Conn) tcpUDP(table *nftables.Table) ([]expr.Any, error) {
	set := &nftables.Set{Table: table, Anonymous: true, Constant: true, KeyType: nftables.TypeInetProto}
	err := c.lib.AddSet(set, []nftables.SetElement{{Key: []byte{unix.IPPROTO_TCP}}, {Key: []byte{unix.IPPROTO_UDP}}})
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID},
	}, err
}

func udpPortExprs(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func synExprs() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x06}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x02}},
	}
}

func establishedExprs() []expr.Any {
	mask := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// Of linux/netfilter/nf_tables.h: NFT_REJECT_TCP_RST, NFT_REJECT_ICMPX_UNREACH and
// NFT_REJECT_ICMPX_ADMIN_PROHIBITED.
const (
	rejectTCP       = 1
	rejectICMPX     = 2
	adminProhibited = 3
)

func actionExprs(a Action) []expr.Any {
	switch a {
	case Accept:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	case Drop:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	case Masquerade:
		return []expr.Any{&expr.Masq{}}
	case MasqueradePorts:
		return []expr.Any{
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(1024)},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(65535)},
			&expr.Masq{ToPorts: true, RegProtoMin: 1, RegProtoMax: 2},
		}
	case ClampMSS:
		return []expr.Any{
			&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
			&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
			&expr.Exthdr{SourceRegister: 1, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
		}
	case Reject:
		return []expr.Any{&expr.Reject{Type: rejectICMPX, Code: adminProhibited}}
	case RejectTCP:
		return []expr.Any{&expr.Reject{Type: rejectTCP}}
	case RedirectDNS:
		return []expr.Any{&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(53)}, &expr.Redir{RegisterProtoMin: 1}}
	case TracePacket:
		return []expr.Any{
			&expr.Immediate{Register: 1, Data: []byte{1}},
			&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1},
		}
	default:
		panic("nft: unknown action " + string(a))
	}
}
