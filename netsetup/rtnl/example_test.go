package rtnl_test

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// A default route, as the kernel lists it, leads by another link.
func ExampleRoute_Over() {
	gateway := netip.MustParseAddr("192.0.2.1")
	header := rtnl.Message{unix.AF_INET, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	r := rtnl.Route{Message: rtnl.Append(header, rtnl.Attr{Type: unix.RTA_GATEWAY, Value: gateway.AsSlice()}, rtnl.Uint32(unix.RTA_OIF, 2))}
	names := map[int]string{2: "eth0", 7: "qn-lan"}
	name := func(link int) string { return names[link] }

	fmt.Println(r.Over(2, 7).Command("append", name))
	fmt.Println(r.Command("del", name))
	// Output:
	// ip route append default via 192.0.2.1 dev qn-lan
	// ip route del default via 192.0.2.1 dev eth0
}
