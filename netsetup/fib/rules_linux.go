package fib

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// ReadRules reads the IPv4 policy rules. It needs no rights. A kernel without them (CONFIG_IP_MULTIPLE_TABLES)
// looks up the tables local, main and default.
func ReadRules() ([]Rule, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	list, err := c.Rules(unix.AF_INET)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return []Rule{{Table: unix.RT_TABLE_LOCAL, Suppress: -1}, {Priority: 32766, Table: MainTable, Suppress: -1}, {Priority: 32767, Table: unix.RT_TABLE_DEFAULT, Suppress: -1}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list policy rules: %w", err)
	}
	rules := make([]Rule, 0, len(list))
	for _, r := range list {
		rules = append(rules, ruleFact(r))
	}
	return rules, nil
}

func ruleFact(r rtnl.Rule) Rule {
	fact := Rule{
		Priority: int(r.Number(unix.FRA_PRIORITY)), From: r.Prefix(unix.FRA_SRC), To: r.Prefix(unix.FRA_DST), Mark: r.Mark(), In: r.In(),
		Narrow: r.Narrow(https), Not: r.Inverted(), Goto: int(r.Number(unix.FRA_GOTO)), Suppress: r.Suppress(),
		Ends: r.Action() >= unix.FR_ACT_BLACKHOLE, Protocol: r.Protocol(),
	}
	if r.Action() == unix.FR_ACT_TO_TBL {
		fact.Table = int(r.Number(unix.FRA_TABLE))
	}
	return fact
}

// https is the port of a Packet.
const https = 443
