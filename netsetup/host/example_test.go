package host_test

import (
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
)

func ExampleFacts_Uplinks() {
	fmt.Println(hosttest.Laptop().Uplinks())
	// Output: [eth0 tun0]
}
