package rtnl

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// AddCommand returns the command that adds the address of one link to another, or to the
// same one, usable at once.
//
//	ip addr add 192.0.2.10/24 dev qn-lan
func (a Address) AddCommand(from, to string) string {
	return "ip addr add " + a.words(a.UsableFlags()) + a.labelWords(from, to) + a.lifetimeWords() + " dev " + to
}

// ChangeCommand returns the command that gives the address, moved from one link to
// another, the flags it had.
//
//	ip addr change 2001:db8::10/64 mngtmpaddr dev qn-lan
func (a Address) ChangeCommand(from, to string) string {
	return "ip addr change " + a.words(a.Flags()) + a.labelWords(from, to) + a.lifetimeWords() + " dev " + to
}

// DelCommand returns the command that deletes the address.
//
//	ip addr del 192.0.2.10/24 dev eth0
func (a Address) DelCommand(link string) string {
	return fmt.Sprintf("ip addr del %s dev %s", a.prefixWords(), link)
}

func (a Address) prefixWords() string {
	if p, ok := a.Peer(); ok {
		return fmt.Sprintf("%s peer %s/%d", a.Local(), p, a.Bits())
	}
	return a.Prefix().String()
}

func (a Address) labelWords(from, to string) string {
	if label := a.LabelOn(from, to, nil); label != "" && label != to {
		return " label " + label
	}
	return ""
}

func (a Address) lifetimeWords() string {
	l := a.Lifetimes()
	if l == (Lifetimes{Forever, Forever}) {
		return ""
	}
	return fmt.Sprintf(" valid_lft %s preferred_lft %s", seconds(l.Valid), seconds(l.Preferred))
}

func seconds(v uint32) string {
	if v == Forever {
		return "forever"
	}
	return strconv.FormatUint(uint64(v), 10)
}

// flagWords are the flags that ip-address(8) takes.
var flagWords = []struct {
	flag uint32
	word string
}{
	{unix.IFA_F_NODAD, "nodad"},
	{unix.IFA_F_HOMEADDRESS, "home"},
	{unix.IFA_F_MANAGETEMPADDR, "mngtmpaddr"},
	{unix.IFA_F_NOPREFIXROUTE, "noprefixroute"},
	{unix.IFA_F_MCAUTOJOIN, "autojoin"},
}

// words returns the address and what belongs to it alone, as ip-address(8) takes it.
func (a Address) words(flags uint32) string {
	words := a.prefixWords()
	if b := a.addr(addressHeader, unix.IFA_BROADCAST); b.IsValid() {
		words += " broadcast " + b.String()
	}
	if a.Family() == unix.AF_INET && a.scope() != unix.RT_SCOPE_UNIVERSE {
		words += " scope " + scopeWord(a.scope())
	}
	if m := a.uint32(addressHeader, unix.IFA_RT_PRIORITY); m != 0 {
		words += fmt.Sprintf(" metric %d", m)
	}
	for _, f := range flagWords {
		if flags&f.flag != 0 {
			words += " " + f.word
		}
	}
	return words
}

func scopeWord(scope byte) string {
	switch scope {
	case unix.RT_SCOPE_LINK:
		return "link"
	case unix.RT_SCOPE_HOST:
		return "host"
	case unix.RT_SCOPE_UNIVERSE:
		return "global"
	}
	return strconv.Itoa(int(scope))
}

// GenModeWord returns ip-link(8)'s word for a value of the sysctl addr_gen_mode, "" for an
// unknown one.
func GenModeWord(value string) string {
	return map[string]string{"0": "eui64", "1": "none", "2": "stable_secret", "3": "random"}[value]
}
