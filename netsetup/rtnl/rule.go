package rtnl

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// Rule is a Raw of RTM_NEWRULE.
type Rule struct{ Raw }

func (r Rule) family() int { return int(r.Raw[0]) }

func (r Rule) Names(link string) bool {
	return r.Text(BodyKind, unix.FRA_IIFNAME) == link || r.Text(BodyKind, unix.FRA_OIFNAME) == link
}

// Naming is the rule with another link's name.
func (r Rule) Naming(from, to string) Rule {
	out := Rule{r.edited(BodyKind, func(a Attr) (Attr, bool) {
		if (a.Kind == unix.FRA_IIFNAME || a.Kind == unix.FRA_OIFNAME) && strings.TrimRight(string(a.Value), "\x00") == from {
			a.Value = append([]byte(to), 0)
		}
		return a, true
	})}
	binary.NativeEndian.PutUint32(out.Raw[8:], binary.NativeEndian.Uint32(r.Raw[8:])&unix.FIB_RULE_INVERT)
	return out
}
