package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Register numbers: a concatenation's later fields follow its first, of 16 bytes in old numbers
// and of 4 in those from 8 on (linux/netfilter/nf_tables.h).
const firstRegister, secondRegister, thirdRegister = 1, 9, 10

const (
	rtnLocal     = 2      // RTN_LOCAL of linux/rtnetlink.h
	statusDstNAT = 1 << 5 // IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h
	loopbackNet  = 127    // the first byte of 127.0.0.0/8
	links        = "qn*"  // all of qnet's
)

// sets are the maps of all addresses and of one, and the set.
func (f Forwarding) sets() (anyone, at, to *nftables.Set) {
	table := &nftables.Table{Name: f.Table, Family: nftables.TableFamilyINet}
	port := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	addressPort := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	guest := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
	return &nftables.Set{Table: table, Name: forwardAny, IsMap: true, Counter: true, Concatenation: true, KeyType: port, DataType: guest},
		&nftables.Set{Table: table, Name: forwardAt, IsMap: true, Counter: true, Concatenation: true, KeyType: addressPort, DataType: guest},
		&nftables.Set{Table: table, Name: forwardTo, Concatenation: true, KeyType: addressPort}
}

// open puts what a forwarding needs into the transaction that comes next, and returns its maps and
// its set.
//
//	nft -f - <<< FORWARDING
func (c *Conn) open(f Forwarding) (anyone, at, to *nftables.Set, err error) {
	anyone, at, to = f.sets()
	for _, s := range []*nftables.Set{anyone, at, to} {
		if err := c.lib.AddSet(s, nil); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	chain := c.lib.AddChain(baseChain(to.Table, Chain{Name: forwardChain, Type: "nat", Hook: Prerouting, Priority: -100, Policy: Accept}))
	for _, es := range [][]expr.Any{
		append(linkExprs(expr.MetaKeyIIFNAME, Link(links), nil), actionExprs(Accept)...),
		append(addressExprs(destOffset, netip.PrefixFrom(netip.AddrFrom4([4]byte{loopbackNet}), 8)), actionExprs(Accept)...),
		slices.Concat(localExprs(), destExprs(firstRegister, secondRegister, thirdRegister), dnatExprs(at)),
		slices.Concat(localExprs(), portExprs(firstRegister, secondRegister), dnatExprs(anyone)),
	} {
		c.lib.AddRule(&nftables.Rule{Table: to.Table, Chain: chain, Exprs: es})
	}
	c.lib.InsertRule(&nftables.Rule{
		Table: to.Table, Chain: &nftables.Chain{Name: throughChain, Table: to.Table}, Exprs: f.acceptExprs(to),
		UserData: userdata.AppendString(nil, userdata.TypeComment, forwardRule),
	})
	return anyone, at, to, nil
}

func localExprs() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: firstRegister, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: firstRegister, Data: binary.NativeEndian.AppendUint32(nil, rtnLocal)},
	}
}

// portExprs load protocol and destination port.
func portExprs(proto, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// destExprs load destination address, protocol and port.
func destExprs(address, proto, port uint32) []expr.Any {
	return append([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: address},
		&expr.Cmp{Op: expr.CmpOpEq, Register: address, Data: []byte{unix.NFPROTO_IPV4}},
		&expr.Payload{DestRegister: address, Base: expr.PayloadBaseNetworkHeader, Offset: destOffset, Len: 4},
	}, portExprs(proto, port)...)
}

func dnatExprs(m *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: firstRegister, DestRegister: firstRegister, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: firstRegister, RegProtoMin: secondRegister},
	}
}

// dnatedExprs match packets of connections that got another destination.
//
//	ct status dnat
func dnatedExprs() []expr.Any {
	mask := binary.NativeEndian.AppendUint32(nil, statusDstNAT)
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: firstRegister},
		&expr.Bitwise{SourceRegister: firstRegister, DestRegister: firstRegister, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: firstRegister, Data: make([]byte, 4)},
	}
}

func (f Forwarding) acceptExprs(to *nftables.Set) []expr.Any {
	return slices.Concat(
		linkExprs(expr.MetaKeyOIFNAME, Link(f.Bridge), nil),
		dnatedExprs(),
		destExprs(firstRegister, secondRegister, thirdRegister),
		[]expr.Any{&expr.Lookup{SourceRegister: firstRegister, SetName: to.Name, SetID: to.ID}},
		actionExprs(Accept))
}

// opened reports whether the table is there and has what the forwarding needs.
//
//	nft list chain inet TABLE forward_in
func (c *Conn) opened(f Forwarding) (bool, error) {
	there, err := c.Has(INet, f.Table, f.Comment)
	if err != nil || !there {
		return false, err
	}
	chains, err := c.lib.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list chains: %w", err)
	}
	return slices.ContainsFunc(chains, func(ch *nftables.Chain) bool { return ch.Table.Name == f.Table && ch.Name == forwardChain }), nil
}

// shut takes away what open added, with all elements, in one transaction.
//
//	nft delete chain inet TABLE forward_in; nft delete map inet TABLE forward_any4; ...
func (c *Conn) shut(f Forwarding) error {
	anyone, at, to := f.sets()
	rules, err := c.lib.GetRules(to.Table, &nftables.Chain{Name: throughChain, Table: to.Table})
	if err != nil {
		return fmt.Errorf("list chain %s: %w", throughChain, err)
	}
	for _, r := range rules {
		if name, _ := Counted(r); name == forwardRule {
			if err := c.lib.DelRule(r); err != nil {
				return err
			}
		}
	}
	c.lib.DelChain(&nftables.Chain{Name: forwardChain, Table: to.Table})
	for _, s := range []*nftables.Set{anyone, at, to} {
		c.lib.DelSet(s)
	}
	if err := c.lib.Flush(); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// Forwards lists the forwards of a table, none of one that has no forwarding.
//
//	nft list map inet TABLE forward_any4; nft list map inet TABLE forward_at4
func (c *Conn) Forwards(f Forwarding) ([]Destination, error) {
	list, _, err := c.forwards(f)
	return list, err
}

// forwards reports besides whether the table has a forwarding.
func (c *Conn) forwards(f Forwarding) (list []Destination, there bool, err error) {
	if there, err = c.opened(f); there && err == nil {
		err = f.each(c.lib, func(d Destination, _ nftables.SetElement) { list = append(list, d) })
	}
	return list, there, err
}

// each calls do with each forward that the table has.
func (f Forwarding) each(lib *nftables.Conn, do func(Destination, nftables.SetElement)) error {
	anyone, at, _ := f.sets()
	for _, m := range []*nftables.Set{anyone, at} {
		elements, err := lib.GetSetElements(m)
		if err != nil {
			return fmt.Errorf("list map %s of table inet %s: %w", m.Name, f.Table, err)
		}
		for _, e := range elements {
			if forward, ok := decodeForward(e); ok {
				do(forward, e)
			}
		}
	}
	return nil
}

// CountForwards returns how many connections and flows each forward of a table gave its guest as
// the destination, since it was added. A kernel before 5.7, and the maps of an older qnet, count
// none. It needs CAP_NET_ADMIN.
//
//	nft list map inet TABLE forward_any4; nft list map inet TABLE forward_at4
func CountForwards(f Forwarding) (map[Destination]uint64, error) {
	lib, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("count forwards: %w", err)
	}
	counts := map[Destination]uint64{}
	err = f.each(lib, func(d Destination, e nftables.SetElement) {
		if e.Counter != nil {
			counts[d] = e.Counter.Packets
		}
	})
	return counts, err
}

// SetForwards changes the forwards of a table, in one transaction: those of add are there then,
// and those of del are not. Others stay. The first forward brings the maps and rules with it, and
// the last takes them away.
//
//	nft delete element inet TABLE ...; nft add element inet TABLE ...
func (c *Conn) SetForwards(f Forwarding, add, del []Destination) error {
	now, there, err := c.forwards(f)
	if err != nil {
		return err
	}
	replaced := func(have Destination) bool { // an element of the same key
		return slices.ContainsFunc(add, func(a Destination) bool { return a.key() == have.key() })
	}
	left := slices.DeleteFunc(slices.Clone(now), func(have Destination) bool { return slices.Contains(del, have) || replaced(have) })
	want := slices.Concat(left, add)
	switch {
	case len(want) == 0 && there:
		err = c.shut(f)
	case len(want) > 0:
		err = c.changeForwards(f, there, now, want)
	}
	if err != nil {
		return fmt.Errorf("change forwards of table inet %s: %w", f.Table, err)
	}
	return nil
}

func (c *Conn) changeForwards(f Forwarding, there bool, now, want []Destination) error {
	anyone, at, to := f.sets()
	if !there {
		var err error
		if anyone, at, to, err = c.open(f); err != nil {
			return err
		}
	}
	for _, s := range []struct {
		set    *nftables.Set
		encode func(Destination) (nftables.SetElement, bool)
	}{{anyone, encodeAny}, {at, encodeAt}, {to, encodeTo}} {
		before, after := elementsOf(now, s.encode), elementsOf(want, s.encode)
		if gone := without(before, after); len(gone) > 0 {
			if err := c.lib.SetDeleteElements(s.set, gone); err != nil {
				return err
			}
		}
		if fresh := without(after, before); len(fresh) > 0 {
			if err := c.lib.SetAddElements(s.set, fresh); err != nil {
				return err
			}
		}
	}
	return c.lib.Flush()
}

// elementsOf are the elements of a map or set, each once.
func elementsOf(list []Destination, encode func(Destination) (nftables.SetElement, bool)) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, f := range list {
		if e, in := encode(f); in && !slices.ContainsFunc(elements, sameAs(e)) {
			elements = append(elements, e)
		}
	}
	return elements
}

// without are the elements that the others lack.
func without(elements, others []nftables.SetElement) []nftables.SetElement {
	return slices.DeleteFunc(slices.Clone(elements), func(e nftables.SetElement) bool { return slices.ContainsFunc(others, sameAs(e)) })
}

func sameAs(e nftables.SetElement) func(nftables.SetElement) bool {
	return func(o nftables.SetElement) bool { return slices.Equal(e.Key, o.Key) && slices.Equal(e.Val, o.Val) }
}

var protocolNumbers = map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// protoPort is protocol and port, each filled up to 4 bytes.
func protoPort(proto string, port uint16) []byte {
	return append([]byte{protocolNumbers[proto], 0, 0, 0}, padded(port)...)
}

func padded(port uint16) []byte { return append(binary.BigEndian.AppendUint16(nil, port), 0, 0) }

func encodeAny(f Destination) (nftables.SetElement, bool) {
	return nftables.SetElement{Key: protoPort(f.Proto, f.Port), Val: append(f.Guest.Addr().AsSlice(), padded(f.Guest.Port())...)}, !f.Address.IsValid()
}

func encodeAt(f Destination) (nftables.SetElement, bool) {
	e, _ := encodeAny(f)
	e.Key = append(f.Address.AsSlice(), e.Key...)
	return e, f.Address.IsValid()
}

func encodeTo(f Destination) (nftables.SetElement, bool) {
	return nftables.SetElement{Key: append(f.Guest.Addr().AsSlice(), protoPort(f.Proto, f.Guest.Port())...)}, true
}

// decodeForward reads what encodeAny or encodeAt wrote.
func decodeForward(e nftables.SetElement) (f Destination, ok bool) {
	key := e.Key
	if len(key) == 12 {
		f.Address, key = netip.AddrFrom4([4]byte(key[:4])), key[4:]
	}
	if len(key) != 8 || len(e.Val) < 6 {
		return Destination{}, false
	}
	for name, number := range protocolNumbers {
		if number == key[0] {
			f.Proto = name
		}
	}
	f.Port = binary.BigEndian.Uint16(key[4:])
	f.Guest = netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.Val[:4])), binary.BigEndian.Uint16(e.Val[4:]))
	return f, true
}

// Counted is what one rule has counted, and its comment.
func Counted(r *nftables.Rule) (name string, packets uint64) {
	for _, e := range r.Exprs {
		if counter, ok := e.(*expr.Counter); ok {
			packets = counter.Packets
		}
	}
	name, _ = userdata.GetString(r.UserData, userdata.TypeComment)
	return name, packets
}
