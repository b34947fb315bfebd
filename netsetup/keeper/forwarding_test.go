package keeper

import (
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/nstest"
	"github.com/qnet-vm/qnet/profiles"
)

// What another program wants forwarded passes from the moment it turns ip_forward
// on, as Docker and libvirt do at their start, and keeps passing when qnet has
// gone; before and in between nothing does but the guests' (F43).
func TestForwardingOfOthers(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		nstest.Sh(t, `ip netns add behind
ip link add other0 type veth peer name eth0 netns behind; ip addr add 198.51.100.1/24 dev other0; ip link set other0 up
ip -n behind addr add 198.51.100.2/24 dev eth0; ip -n behind link set eth0 up; ip -n behind route add default via 198.51.100.1
ip netns exec inet ip route add 198.51.100.0/24 via 192.0.2.10`)
		passes := func() bool { return nstest.Pings("behind", "203.0.113.1") }
		both := func() bool { return passes() && nstest.Pings("vm1", "203.0.113.1") }
		const forward = "sysctl -qw net/ipv4/ip_forward="

		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		nstest.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		for range 2 {
			nstest.Sh(t, forward+"0; sysctl -qw net/ipv4/conf/other0/forwarding=1") // as a router's link has it
			nstest.Eventually(t, patience*2*time.Second, "guests alone pass", func() bool {
				return !passes() && nstest.Pings("vm1", "203.0.113.1")
			})
			nstest.Sh(t, forward+"1")
			nstest.Eventually(t, patience*2*time.Second, "both pass", both)
		}
		nstest.Sh(t, "ip link del vvm1; ip netns del vm1")
		mustLeave(t, r)
		if !passes() {
			t.Error("qnet took the forwarding of others along")
		}
		// A network that starts now has nothing to guard against.
		r = mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		if !passes() {
			t.Error("qnet drops what others forward")
		}
		mustLeave(t, r)
		nstest.Sh(t, forward+"0; ip link del other0; ip netns del behind; ip netns exec inet ip route del 198.51.100.0/24")
	})
}
