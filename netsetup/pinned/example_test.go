package pinned_test

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/pinned"
)

// Pins for a guest whose address a VPN's route takes.
func ExampleNetwork_Needed() {
	n := pinned.Network{
		Bridge: 7, Prefix: netip.MustParsePrefix("10.77.0.0/24"), Gateway: netip.MustParseAddr("10.77.0.1"),
		Guests: []netip.Addr{netip.MustParseAddr("10.77.0.10")},
	}
	all := fib.FIB{
		Rules: []fib.Rule{{Priority: 32766, Table: fib.MainTable, Suppress: -1}},
		Routes: []fib.Route{
			{Dst: netip.MustParsePrefix("10.77.0.0/25"), Table: fib.MainTable, Link: 9},
			{Dst: netip.MustParsePrefix("10.77.0.0/24"), Table: fib.MainTable, Link: 7},
		},
	}
	need, by, _ := n.Needed(all)
	fmt.Println("taken by", by[0].Describe("tun0"))
	for _, s := range need.Steps("qn-dev", n.Prefix) {
		fmt.Println(s)
	}
	// Output:
	// taken by route 10.77.0.0/25 dev tun0
	// ip route prepend 10.77.0.10/32 dev qn-dev scope link proto 113
}
