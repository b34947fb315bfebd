package reach

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Bounds of a NIC's list.
const (
	Most     = 256      // entries
	MostText = 16 << 10 // bytes of all entries
)

// Entry is one of a list: a name, or a prefix, which may be denied.
type Entry struct {
	// Name is in lower case, in ASCII and without a dot at its end: "deb.debian.org", or "*.github.com"
	// for all below it; "" of a prefix.
	Name   string
	Prefix netip.Prefix
	Deny   bool   // of a prefix
	Proto  string // "tcp" or "udp"; "" is both, and of a prefix without a port every protocol
	Port   uint16 // 0 is all
}

// String renders the entry as Parse reads it.
func (e Entry) String() string {
	text := e.Name
	if e.Prefix.IsValid() {
		text = e.Prefix.String()
		if e.Prefix.IsSingleIP() {
			text = e.Prefix.Addr().String()
		}
		if e.Port != 0 && e.Prefix.Addr().Is6() {
			text = "[" + text + "]"
		}
	}
	if e.Deny {
		text = "!" + text
	}
	if e.Port != 0 {
		text += ":" + strconv.Itoa(int(e.Port))
	}
	if e.Proto != "" {
		text += "/" + e.Proto
	}
	return text
}

// MarshalJSON encodes the entry as a profile has it.
func (e Entry) MarshalJSON() ([]byte, error) { return json.Marshal(e.String()) }

// UnmarshalJSON decodes what MarshalJSON encoded, and refuses what no profile has.
func (e *Entry) UnmarshalJSON(text []byte) error {
	var s string
	err := json.Unmarshal(text, &s)
	if err == nil {
		*e, err = Parse(s)
	}
	return err
}

// Parse reads an entry: [!]PREFIX or NAME, then :PORT, then /tcp or /udp. An IPv6 prefix stands in
// brackets before a port. The error says what is allowed.
func Parse(s string) (Entry, error) {
	var e Entry
	rest, deny := strings.CutPrefix(s, "!")
	e.Deny = deny
	for _, proto := range []string{"tcp", "udp"} {
		if before, found := strings.CutSuffix(rest, "/"+proto); found {
			rest, e.Proto = before, proto
			break
		}
	}
	what, port, err := splitPort(rest)
	if err != nil {
		return Entry{}, err
	}
	if e.Port, err = parsePort(port); err != nil {
		return Entry{}, err
	}
	if e.Prefix, err = parsePrefix(what); err != nil {
		return Entry{}, err
	}
	if !e.Prefix.IsValid() {
		if e.Name, err = parseName(what); err != nil {
			return Entry{}, err
		}
	}
	switch {
	case e.Deny && !e.Prefix.IsValid():
		return Entry{}, errors.New("a name cannot be denied, because its address may have others: leave it out, or deny a prefix")
	case e.Deny && (e.Port != 0 || e.Proto != ""):
		return Entry{}, errors.New("a denied prefix has no port and no protocol")
	case e.Proto != "" && e.Port == 0:
		return Entry{}, errors.New("a protocol needs a port, such as :443/" + e.Proto)
	}
	return e, nil
}

// splitPort divides what is allowed from its port, "" without one.
func splitPort(s string) (what, port string, err error) {
	if inside, found := strings.CutPrefix(s, "["); found {
		what, rest, closed := strings.Cut(inside, "]")
		port, colon := strings.CutPrefix(rest, ":")
		if !closed || !colon || port == "" {
			return "", "", errors.New("a bracket without ]:PORT behind it")
		}
		return what, port, nil
	}
	if strings.Count(s, ":") != 1 { // an IPv6 address has two at least
		return s, "", nil
	}
	what, port, _ = strings.Cut(s, ":")
	if port == "" {
		return "", "", errors.New("no port behind the colon")
	}
	return what, port, nil
}

func parsePort(s string) (uint16, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %.20q, allowed: 1 to 65535", s)
	}
	return uint16(n), nil
}

// parsePrefix returns no valid prefix, and no error, of what is none.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" || a.Is4In6() {
			return netip.Prefix{}, errors.New("an address with a zone, or of IPv4 within IPv6; allowed: a plain one")
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	if !strings.Contains(s, "/") {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("%.60q is no prefix, such as 192.0.2.0/24 or 2001:db8::/32", s)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("host bits are set, allowed: %s", p.Masked())
	case p.Addr().Is4In6():
		return netip.Prefix{}, errors.New("IPv4 within IPv6; allowed: the prefix of IPv4")
	}
	return p, nil
}
