package host

import (
	"slices"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// Of very many routes those are kept that a plan depends on: wide ones, those of private
// addresses, and one for each link and table.
func TestFactsKeepFewRoutes(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, `ip link add d0 type veth peer name d1; ip link set d0 addrgenmode none up; ip link set d1 addrgenmode none up
for i in $(seq 250); do for j in 1 2; do
echo "route add 20.$j.$i.0/24 via 192.0.2.1 proto bird"; echo "route add 21.$j.$i.0/24 proto bird nexthop via 192.0.2.1 nexthop dev d0"
echo "route add blackhole 22.$j.$i.0/24"; done; done | ip -batch -
ip route add 23.1.0.0/16 dev d1 table 9; ip route add 23.2.0.0/16 dev d1 table 9; ip route add 128.0.0.0/1 dev eth0
ip route add 172.20.0.0/16 dev eth0; ip route add 172.21.0.0/16 dev eth0`)
		f, err := ObserveNetwork()
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Routes) > 30 {
			t.Errorf("%d of 1,500 routes are kept", len(f.Routes))
		}
		has := func(link, dst string) bool {
			return slices.ContainsFunc(f.Routes, func(r Route) bool { return r.Link == link && (dst == "" || r.Dst == prefix(dst)) })
		}
		for _, want := range []struct{ link, dst string }{
			{"eth0", "0.0.0.0/0"}, {"eth0", "128.0.0.0/1"}, {"eth0", "172.20.0.0/16"}, {"eth0", "172.21.0.0/16"}, {"d0", ""}, {"d1", ""},
		} {
			if !has(want.link, want.dst) {
				t.Errorf("no route %s by %s in %+v", want.dst, want.link, f.Routes)
			}
		}
		// The host's NIC has them all, where it would become a port.
		c, err := rtnl.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		eth0, _ := f.Link("eth0")
		held, err := ReadHoldings(c, eth0)
		if err != nil || len(held.Routes) < 1000 || len(held.Routes) != len(held.First) {
			t.Errorf("%d routes by eth0, %v", len(held.Routes), err)
		}
	})
}
