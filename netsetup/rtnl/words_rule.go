package rtnl

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Command returns the command with that verb, "add" or "del", for the rule.
//
//	ip rule add from 192.0.2.0/24 iif qn-lan priority 100 lookup 100
func (r Rule) Command(verb string) string {
	words := "ip " + familyFlag(r.family()) + "rule " + verb
	if r.flags()&unix.FIB_RULE_INVERT != 0 {
		words += " not"
	}
	for _, end := range []struct {
		word string
		attr uint16
		bits byte
	}{{"from", unix.FRA_SRC, r.Message[2]}, {"to", unix.FRA_DST, r.Message[1]}} {
		if a := r.addr(routeHeader, end.attr); a.IsValid() {
			words += fmt.Sprintf(" %s %s/%d", end.word, a, end.bits)
		}
	}
	if m := r.attr(routeHeader, unix.FRA_FWMARK); m != nil {
		words += fmt.Sprintf(" fwmark 0x%x/0x%x", r.uint32(routeHeader, unix.FRA_FWMARK), r.uint32(routeHeader, unix.FRA_FWMASK))
	}
	for _, end := range []struct {
		word string
		attr uint16
	}{{"iif", unix.FRA_IIFNAME}, {"oif", unix.FRA_OIFNAME}} {
		if l := text(r.attr(routeHeader, end.attr)); l != "" {
			words += fmt.Sprintf(" %s %s", end.word, l)
		}
	}
	words += fmt.Sprintf(" priority %d", r.uint32(routeHeader, unix.FRA_PRIORITY))
	return words + " " + r.actionWords()
}

// ruleActions are ip-rule(8)'s words for the actions without an argument.
var ruleActions = map[byte]string{
	unix.FR_ACT_BLACKHOLE: "blackhole", unix.FR_ACT_UNREACHABLE: "unreachable", unix.FR_ACT_PROHIBIT: "prohibit", unix.FR_ACT_NOP: "nop",
}

func (r Rule) actionWords() string {
	switch action := r.Message[7]; action {
	case unix.FR_ACT_TO_TBL:
		return fmt.Sprintf("lookup %d", r.uint32(routeHeader, unix.FRA_TABLE))
	case unix.FR_ACT_GOTO:
		return fmt.Sprintf("goto %d", r.uint32(routeHeader, unix.FRA_GOTO))
	default:
		return ruleActions[action]
	}
}
