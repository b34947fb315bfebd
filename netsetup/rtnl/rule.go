package rtnl

import (
	"encoding/binary"

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

func (r Rule) flags() uint32 { return binary.NativeEndian.Uint32(r.Message[8:]) }
