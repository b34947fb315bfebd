package macgen_test

import (
	"fmt"

	"github.com/qnet-vm/qnet/macgen"
)

// The second NIC of a VM gets the same address at every run on this host, and another
// one on a host with another salt.
func ExampleDerive() {
	fmt.Println(macgen.Derive([]byte("salt of host a"), "/home/me/web.toml web", 1))
	fmt.Println(macgen.Derive([]byte("salt of host a"), "/home/me/web.toml web", 1))
	fmt.Println(macgen.Derive([]byte("salt of host b"), "/home/me/web.toml web", 1))
	// Output:
	// 52:54:00:3a:75:df
	// 52:54:00:3a:75:df
	// 52:54:00:b2:02:99
}
