package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadRules reads the IPv4 policy rules. It needs no rights. A kernel without them (CONFIG_IP_MULTIPLE_TABLES)
// looks up the tables local, main and default.
func ReadRules() ([]FIBRule, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	list, err := c.Rules(unix.AF_INET)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return []FIBRule{{Table: unix.RT_TABLE_LOCAL, Suppress: -1}, {Priority: 32766, Table: MainTable, Suppress: -1}, {Priority: 32767, Table: unix.RT_TABLE_DEFAULT, Suppress: -1}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list policy rules: %w", err)
	}
	rules := make([]FIBRule, 0, len(list))
	for _, r := range list {
		rules = append(rules, ruleFact(r))
	}
	return rules, nil
}

// ruleFact converts a rule. It is narrow if it has a selector that is not known here.
func ruleFact(r rtnl.Rule) FIBRule {
	fact := FIBRule{
		From: r.Prefix(unix.FRA_SRC), To: r.Prefix(unix.FRA_DST), Not: r.Inverted(), Narrow: r.TOS() != 0,
		Suppress: -1, Ends: r.Action() >= unix.FR_ACT_BLACKHOLE,
	}
	mask := uint32(math.MaxUint32)
	for _, a := range r.Attrs() {
		switch a.Type {
		case unix.FRA_PRIORITY:
			fact.Priority = int(a.Uint())
		case unix.FRA_FWMARK:
			fact.Mark = a.Uint()
		case unix.FRA_FWMASK:
			mask = a.Uint()
		case unix.FRA_IIFNAME:
			fact.In = a.Text()
		case unix.FRA_TABLE:
			fact.Table = int(a.Uint())
		case unix.FRA_GOTO:
			fact.Goto = int(a.Uint())
		case unix.FRA_SUPPRESS_PREFIXLEN:
			fact.Suppress = int(int32(a.Uint()))
		case unix.FRA_PROTOCOL:
			fact.Protocol = int(a.Uint())
		case unix.FRA_SRC, unix.FRA_DST, unix.FRA_FLOW:
		default:
			fact.Narrow = fact.Narrow || narrows(a)
		}
	}
	fact.Mark &= mask
	if r.Action() != unix.FR_ACT_TO_TBL {
		fact.Table = 0
	}
	return fact
}

// https is the port of a Packet.
const https = 443

// portMask is FRA_DPORT_MASK of linux/fib_rules.h: 0 for a range of ports, all bits for one.
const portMask = 29

// narrows reports whether an attribute of a rule excludes a Packet.
func narrows(a rtnl.Attr) bool {
	within := func(v uint16) bool { // struct fib_rule_port_range
		return len(a.Value) == 4 && binary.NativeEndian.Uint16(a.Value) <= v && v <= binary.NativeEndian.Uint16(a.Value[2:])
	}
	switch a.Type {
	case unix.FRA_SUPPRESS_IFGROUP:
		return a.Uint() != math.MaxUint32
	case unix.FRA_IP_PROTO:
		return a.Uint() != unix.IPPROTO_TCP
	case unix.FRA_DPORT_RANGE:
		return !within(https)
	case portMask:
		return a.Uint() != 0 && a.Uint() != math.MaxUint16
	case unix.FRA_UID_RANGE: // struct fib_rule_uid_range
		return len(a.Value) < 4 || binary.NativeEndian.Uint32(a.Value) > 0
	case unix.FRA_TUN_ID:
		return len(a.Value) != 8 || binary.NativeEndian.Uint64(a.Value) != 0
	}
	return true
}
