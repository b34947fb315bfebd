package netsetup

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// rule is a Raw of RTM_NEWRULE.
type rule struct{ Raw }

func (r rule) family() int { return int(r.Raw[0]) }

func (r rule) names(link string) bool {
	return r.text(bodyKind, unix.FRA_IIFNAME) == link || r.text(bodyKind, unix.FRA_OIFNAME) == link
}

// naming is the rule with another link's name.
func (r rule) naming(from, to string) rule {
	out := rule{r.edited(bodyKind, func(a attr) (attr, bool) {
		if (a.kind == unix.FRA_IIFNAME || a.kind == unix.FRA_OIFNAME) && strings.TrimRight(string(a.value), "\x00") == from {
			a.value = append([]byte(to), 0)
		}
		return a, true
	})}
	binary.NativeEndian.PutUint32(out.Raw[8:], binary.NativeEndian.Uint32(r.Raw[8:])&unix.FIB_RULE_INVERT)
	return out
}
