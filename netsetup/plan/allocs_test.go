package plan

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/profiles"
)

// bigHost has 1,000 links and 10,000 routes.
func bigHost() host.Facts {
	f := hosttest.Laptop()
	for i := range 1000 {
		f.Links = append(f.Links, host.Link{Index: 100 + i, Name: fmt.Sprintf("veth%d", i), Kind: "veth", Ethernet: true, MTU: 1500})
	}
	for i := range 10000 {
		dst := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 0}), 24)
		f.Routes = append(f.Routes, host.Route{Dst: dst, Link: f.Links[i%len(f.Links)].Name, Table: 254})
	}
	return f
}

// A plan makes few allocations, also on a host with many links and routes: the test fails,
// whatever the machine's speed, if they grow with links times routes. The limits leave room
// for the race detector, which makes a few of its own: a list that grew with links or routes
// would take a thousand. All links of the second host have routes, so that they are among
// those that guests reach, in one list.
func TestAllocations(t *testing.T) {
	n := Network{Name: "dev", Mode: profiles.NAT}
	for name, c := range map[string]struct {
		facts host.Facts
		most  float64
	}{"laptop": {hosttest.Laptop(), 130}, "1,000 links and 10,000 routes": {bigHost(), 250}} {
		got := testing.AllocsPerRun(10, func() {
			if _, err := New(n, c.facts, Options{Salt: hosttest.Salt}); err != nil {
				t.Fatal(err)
			}
		})
		if got > c.most {
			t.Errorf("%s: %v allocations, want %v at most", name, got, c.most)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	n := Network{Name: "dev", Mode: profiles.NAT}
	for name, facts := range map[string]host.Facts{"laptop": hosttest.Laptop(), "1,000 links and 10,000 routes": bigHost()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := New(n, facts, Options{Salt: hosttest.Salt}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
