package rtnl

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Rule is a message of RTM_NEWRULE: a policy rule, ip-rule(8).
type Rule struct{ Message }

func (r Rule) family() int { return int(r.Message[0]) }

// Names reports whether the rule selects packets by the link of that name.
func (r Rule) Names(link string) bool {
	return text(r.attr(routeHeader, unix.FRA_IIFNAME)) == link || text(r.attr(routeHeader, unix.FRA_OIFNAME)) == link
}

// Renamed returns the rule with another link's name in place of the first one's, as the
// kernel takes it.
func (r Rule) Renamed(from, to string) Rule {
	out := r.edited(routeHeader, func(a Attr) (Attr, bool) {
		if (a.Type == unix.FRA_IIFNAME || a.Type == unix.FRA_OIFNAME) && text(a.Value) == from {
			a = String(a.Type, to)
		}
		return a, true
	})
	binary.NativeEndian.PutUint32(out[8:], r.flags()&unix.FIB_RULE_INVERT) // the kernel sets the others
	return Rule{out}
}

// Mark returns the mark that the rule selects packets by, 0 if it does not.
func (r Rule) Mark() uint32 { return r.uint32(routeHeader, unix.FRA_FWMARK) }

// Action returns the FR_ACT_ number of linux/fib_rules.h: a lookup in a table, goto and so on.
func (r Rule) Action() byte { return r.Message[7] }

// Inverted reports whether the rule is for the packets that it does not select ("not").
func (r Rule) Inverted() bool { return r.flags()&unix.FIB_RULE_INVERT != 0 }

// TOS returns the type of service that the rule selects packets by, 0 if it does not.
func (r Rule) TOS() byte { return r.Message[3] }

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

// Attrs returns the attributes (FRA_) of the rule.
func (r Rule) Attrs() []Attr { return Attrs(r.Message[routeHeader:]) }

// Text returns a string attribute's value without its zero byte.
func (a Attr) Text() string { return text(a.Value) }

// Uint returns an attribute's value of 1, 2 or 4 bytes, 0 of any other length.
func (a Attr) Uint() uint32 {
	switch len(a.Value) {
	case 1:
		return uint32(a.Value[0])
	case 2:
		return uint32(binary.NativeEndian.Uint16(a.Value))
	case 4:
		return binary.NativeEndian.Uint32(a.Value)
	}
	return 0
}

func (r Rule) flags() uint32 { return binary.NativeEndian.Uint32(r.Message[8:]) }
