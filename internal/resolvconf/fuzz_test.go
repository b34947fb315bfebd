package resolvconf

import (
	"slices"
	"testing"
)

// FuzzParse reads any text as resolv.conf: each server is an address, and comes once.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"nameserver 192.0.2.1\n", "nameserver fe80::1%eth0\noptions use-vc", "nameserver ::ffff:192.0.2.1\nnameserver 192.0.2.1", "nameserver", "\x00 \n", "nameserver fe80::1%\x1b[2J"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := parse(text)
		for i, a := range c.Servers {
			if !a.IsValid() || a.Is4In6() || slices.Contains(c.Servers[:i], a) {
				t.Errorf("got %v", c.Servers)
			}
		}
	})
}
