package onlink_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/onlink"
)

func TestRead(t *testing.T) {
	lab.Require(t, lab.Tun)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, `
ip addr add 2001:db8:5::10/64 dev eth0 nodad
ip route add 198.51.100.0/24 dev eth0
ip route add 198.51.101.0/24 via 192.0.2.1
ip route add 100.100.0.0/16 nexthop via 192.0.2.1 nexthop dev eth0
ip tuntap add vpn0 mode tun; ip link set vpn0 up; ip addr add 203.0.113.9/28 dev vpn0
ip route add 0.0.0.0/1 dev eth0; ip route add 9.0.0.0/8 dev vpn0`)
		got, err := onlink.Read()
		if err != nil {
			t.Fatal(err)
		}
		for prefix, want := range map[string]bool{
			"192.0.2.0/24": true, "2001:db8:5::/64": true, "198.51.100.0/24": true, "100.100.0.0/16": true, "203.0.113.0/28": true,
			"198.51.101.0/24": false, "0.0.0.0/1": false, "9.0.0.0/8": false, "0.0.0.0/0": false,
		} {
			if slices.Contains(got, netip.MustParsePrefix(prefix)) != want {
				t.Errorf("%s: want %t of %v", prefix, want, got)
			}
		}
	})
}
