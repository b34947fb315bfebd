package reach

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	p := netip.MustParsePrefix
	for text, want := range map[string]Entry{
		"deb.debian.org":         {Name: "deb.debian.org"},
		"Deb.Debian.ORG.":        {Name: "deb.debian.org"},
		"*.github.com:443":       {Name: "*.github.com", Port: 443},
		"bücher.example:443/tcp": {Name: "xn--bcher-kva.example", Port: 443, Proto: "tcp"},
		"BÜCHER.example":         {Name: "xn--bcher-kva.example"},
		"*.例え.テスト":               {Name: "*.xn--r8jz45g.xn--zckzah"},
		"_ldap._tcp.example.com": {Name: "_ldap._tcp.example.com"},
		"192.0.2.0/24:22":        {Prefix: p("192.0.2.0/24"), Port: 22},
		"192.0.2.9:5432/tcp":     {Prefix: p("192.0.2.9/32"), Port: 5432, Proto: "tcp"},
		"192.0.2.9":              {Prefix: p("192.0.2.9/32")},
		"!10.0.0.0/8":            {Prefix: p("10.0.0.0/8"), Deny: true},
		"!fd00::/8":              {Prefix: p("fd00::/8"), Deny: true},
		"2001:db8::/32":          {Prefix: p("2001:db8::/32")},
		"[2001:db8::/32]:443":    {Prefix: p("2001:db8::/32"), Port: 443},
		"[2001:db8::1]:53/udp":   {Prefix: p("2001:db8::1/128"), Port: 53, Proto: "udp"},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
		again, err := Parse(got.String())
		if err != nil || again != want {
			t.Errorf("%s: %s is read as %+v, %v", text, got, again, err)
		}
		encoded, err := json.Marshal(got)
		var decoded Entry
		if err != nil || json.Unmarshal(encoded, &decoded) != nil || decoded != want {
			t.Errorf("%s: %s, %v", text, encoded, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "no name, address or prefix",
		"*":                              "leave egress out",
		"*.":                             "leave egress out",
		"a.*.com":                        "whole labels, and first",
		"www*.example.com":               "whole labels, and first",
		"*.*.com":                        "whole labels, and first",
		"!example.com":                   "a name cannot be denied",
		"!10.0.0.0/8:22":                 "a denied prefix has no port",
		"10.0.0.1/8":                     "host bits are set, allowed: 10.0.0.0/8",
		"10.0.0.0/33":                    "is no prefix",
		"10.0.0":                         "no name, address or prefix",
		"example.com:":                   "no port behind the colon",
		"example.com:0":                  "allowed: 1 to 65535",
		"example.com:70000":              "allowed: 1 to 65535",
		"example.com/tcp":                "a protocol needs a port",
		"example.com:1/sctp":             "allowed: 1 to 65535",
		"http://example.com":             "allowed: 1 to 65535",
		"exa mple.com":                   "no name, address or prefix",
		"a..b":                           "no name, address or prefix",
		"[2001:db8::1]":                  "a bracket without ]:PORT",
		"fe80::1%eth0":                   "a zone",
		"::ffff:10.0.0.1":                "IPv4 within IPv6",
		strings.Repeat("a", 64) + ".com": "no name, address or prefix",
		"a\x00b.com":                     "no name, address or prefix",
		"\xff.com":                       "no name, address or prefix",
		"a\"; drop.com":                  "no name, address or prefix",
	} {
		if e, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v; want %q", text, e, err, want)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		entry, name string
		want        bool
	}{
		{"example.com", "example.com", true},
		{"example.com", "www.example.com", false},
		{"*.example.com", "www.example.com", true},
		{"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", "badexample.com", false},
		{"*.example.com", ".example.com", false},
		{"192.0.2.1", "", false},
	} {
		e, err := Parse(c.entry)
		if err != nil || e.Matches(c.name) != c.want {
			t.Errorf("%s of %s: %t, %v", c.entry, c.name, !c.want, err)
		}
	}
}

// Whatever a profile has, what is read is read the same again, and has no other characters than
// names and addresses do.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"*.github.com:443/tcp", "[2001:db8::/32]:1", "!10.0.0.0/8", "bücher.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(e.String()); err != nil || again != e {
			t.Fatalf("%q: %+v, then %+v, %v", s, e, again, err)
		}
		if strings.Trim(e.String(), "!*[]:./-_0123456789abcdefghijklmnopqrstuvwxyz") != "" || len(e.Name) > mostName {
			t.Fatalf("%q: %s", s, e)
		}
	})
}
