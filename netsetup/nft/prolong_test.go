package nft

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// An address is there when Prolong returns, for the new time, whether it was there, had expired or
// is new.
func TestProlong(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		c, err := Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		table := Table{Family: INet, Name: "qnet_t", Comment: "qnet:t", Sets: []Set{{Name: "names4", Of: IP, Timeout: true}, {Name: "names6", Of: IP6, Timeout: true}}}
		if err := c.Add(table); err != nil {
			t.Fatal(err)
		}
		four, six := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
		for _, d := range []time.Duration{100 * time.Millisecond, time.Hour, 10 * time.Second} {
			for range 2 {
				if err := c.Prolong("qnet_t", []Passing{{"names4", four, d}, {"names6", six, d}}); err != nil {
					t.Fatal(err)
				}
			}
			if d < time.Second {
				lab.Eventually(t, 5*time.Second, "the end", func() bool { return !strings.Contains(lab.Sh(t, "nft list table inet qnet_t"), "192.0.2.7") })
				continue
			}
			want := map[time.Duration]string{time.Hour: "timeout 1h", 10 * time.Second: "timeout 10s"}[d]
			if got := lab.Sh(t, "nft list table inet qnet_t"); strings.Count(got, want) != 2 {
				t.Errorf("after %s: %s", d, got)
			}
		}
		if err := c.Prolong("qnet_none", []Passing{{"names4", four, time.Second}}); err == nil {
			t.Error("a table that is not there takes addresses")
		}
		if err := c.Prolong("qnet_t", []Passing{{"names6", six, time.Hour}}); err != nil {
			t.Errorf("after an error: %v", err)
		}
	})
}
