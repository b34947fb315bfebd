package fib_test

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/fib"
)

// A VPN's routes are in a table of their own, and main's default route counts no more.
func ExampleFIB_Lookup() {
	all := fib.FIB{
		Rules: []fib.Rule{
			{Priority: 100, Table: fib.MainTable, Suppress: 0},
			{Priority: 101, Table: 51820, Suppress: -1},
		},
		Routes: []fib.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Table: fib.MainTable, Link: 2},
			{Dst: netip.MustParsePrefix("192.0.2.0/24"), Table: fib.MainTable, Link: 2},
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Table: 51820, Link: 7},
		},
	}
	for _, to := range []string{"192.0.2.1", "198.51.100.1"} {
		rule, route, _ := all.Lookup(netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr(to))
		fmt.Printf("to %s: link %d, by the rule of priority %d\n", to, route.Link, rule.Priority)
	}
	// Output:
	// to 192.0.2.1: link 2, by the rule of priority 100
	// to 198.51.100.1: link 7, by the rule of priority 101
}
