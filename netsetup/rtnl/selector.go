package rtnl

import (
	"encoding/binary"
	"math"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Action returns the FR_ACT_ number of linux/fib_rules.h: a lookup in a table, goto and so on.
func (r Rule) Action() byte { return r.Message[7] }

// Inverted reports whether the rule is for the packets that it does not select ("not").
func (r Rule) Inverted() bool { return r.flags()&unix.FIB_RULE_INVERT != 0 }

// Number returns the value of a 32-bit attribute (FRA_), 0 if the rule has none.
func (r Rule) Number(kind uint16) uint32 { return r.uint32(routeHeader, kind) }

// Mark returns the bits that the mark of the packets has, within the rule's mask.
func (r Rule) Mark() uint32 {
	mask := uint32(math.MaxUint32)
	if r.attr(routeHeader, unix.FRA_FWMASK) != nil {
		mask = r.Number(unix.FRA_FWMASK)
	}
	return r.Number(unix.FRA_FWMARK) & mask
}

// In returns the name of the link that the packets come in by, "" if it does not matter.
func (r Rule) In() string { return text(r.attr(routeHeader, unix.FRA_IIFNAME)) }

// Suppress returns the longest prefix, in bits, of routes that the lookup passes over
// (suppress_prefixlength), -1 for none.
func (r Rule) Suppress() int {
	if r.attr(routeHeader, unix.FRA_SUPPRESS_PREFIXLEN) == nil {
		return -1
	}
	return int(int32(r.Number(unix.FRA_SUPPRESS_PREFIXLEN)))
}

// Protocol returns the RTPROT_ number of the rule's origin.
func (r Rule) Protocol() int {
	if v := r.attr(routeHeader, unix.FRA_PROTOCOL); len(v) > 0 {
		return int(v[0])
	}
	return 0
}

// Prefix returns the prefix of FRA_SRC or FRA_DST, not valid if the rule has none.
func (r Rule) Prefix(kind uint16) netip.Prefix {
	a, bits := r.addr(routeHeader, kind), r.Message[2]
	if kind == unix.FRA_DST {
		bits = r.Message[1]
	}
	if !a.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(bits))
}

// Narrow reports whether the rule has a selector that leaves out root's TCP packets to that
// port, or one that is not known here; prefixes, mark and input link do not count.
func (r Rule) Narrow(port uint16) bool {
	for _, a := range Attrs(r.Message[routeHeader:]) {
		if leavesOut(a, port) {
			return true
		}
	}
	return r.Message[3] != 0 // type of service
}

// portMask is FRA_DPORT_MASK of linux/fib_rules.h: 0 for a range of ports, all bits for one.
const portMask = 29

func leavesOut(a Attr, port uint16) bool {
	number := func() uint32 { return binary.NativeEndian.Uint32(a.Value) }
	switch {
	case a.Type == unix.FRA_IP_PROTO && len(a.Value) == 1:
		return a.Value[0] != unix.IPPROTO_TCP
	case a.Type == unix.FRA_DPORT_RANGE && len(a.Value) == 4: // struct fib_rule_port_range
		return port < binary.NativeEndian.Uint16(a.Value) || port > binary.NativeEndian.Uint16(a.Value[2:])
	case a.Type == portMask && len(a.Value) == 2:
		mask := binary.NativeEndian.Uint16(a.Value)
		return mask != 0 && mask != math.MaxUint16
	case a.Type == unix.FRA_UID_RANGE && len(a.Value) == 8: // struct fib_rule_uid_range
		return number() > 0
	case a.Type == unix.FRA_SUPPRESS_IFGROUP && len(a.Value) == 4:
		return number() != math.MaxUint32
	case a.Type == unix.FRA_TUN_ID && len(a.Value) == 8:
		return binary.NativeEndian.Uint64(a.Value) != 0
	}
	switch a.Type {
	case unix.FRA_PRIORITY, unix.FRA_FWMARK, unix.FRA_FWMASK, unix.FRA_IIFNAME, unix.FRA_TABLE, unix.FRA_GOTO,
		unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_PROTOCOL, unix.FRA_SRC, unix.FRA_DST, unix.FRA_FLOW:
		return false
	}
	return true
}
