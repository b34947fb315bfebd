package profiles

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// The keys that name a VM or a network have the one pattern of names.
func TestOnePatternOfNames(t *testing.T) {
	for _, key := range []struct {
		of   reflect.Type
		name string
	}{{reflect.TypeFor[rawProfile](), "Name"}, {reflect.TypeFor[rawNIC](), "Network"}} {
		f, _ := key.of.FieldByName(key.name)
		if got := f.Tag.Get("pattern"); got != namePattern().String() {
			t.Errorf("%s: pattern %s, want %s", key.name, got, namePattern())
		}
	}
}

func TestValid(t *testing.T) {
	long := strings.Repeat("a", 128)
	for _, c := range []struct {
		what    string
		valid   func(string) bool
		yes, no []string
	}{
		{
			"name", ValidName,
			[]string{"a", "web", "probe-4194304", long[:31], "a-"},
			[]string{"", long[:32], "A", "-a", "1a", "a_b", "a.b", "../a", "a/b", "a\n", "a\x00", "\xff", "\u00e4"},
		},
		{
			"link", ValidLink,
			[]string{"eth0", "br-lan.10", "enx525400123456", long[:127], "we!rd"},
			[]string{"", ".", "..", long, "a/b", "../all", "a b", "a\tb", "eth0:1", "a\n", "a\x1b[2J", "a\x00"},
		},
		{
			"subnet", func(s string) bool { return ValidSubnet(netip.MustParsePrefix(s)) },
			[]string{"10.0.0.0/20", "192.168.223.0/24", "172.31.255.248/29"},
			[]string{"10.0.0.0/8", "10.0.0.0/30", "10.0.0.1/24", "192.0.2.0/24", "fd00::/24", "172.32.0.0/24", "::ffff:10.0.0.0/24"},
		},
		{"boot file", ValidBootFile, []string{"pxelinux.0", "~", long[:127]}, []string{"", "a b", "a\n", long, "\x7f", "\u00e4"}},
	} {
		for _, s := range c.yes {
			if !c.valid(s) {
				t.Errorf("%s %q is refused", c.what, s)
			}
		}
		for _, s := range c.no {
			if c.valid(s) {
				t.Errorf("%s %q is allowed", c.what, s)
			}
		}
	}
	if ValidSubnet(netip.Prefix{}) {
		t.Error("no subnet is allowed")
	}
}
