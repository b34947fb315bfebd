package keeper_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// secondISP gives the host up1, by which another Internet is reached: that of lab.Uplink does
// not have 198.51.100.7, and this one has no 203.0.113.1. Its gateway is 198.18.0.1, later .3.
const secondISP = `
ip netns add isp
ip link add up1 type veth peer name isp0 netns isp
ip -n isp link set lo up
ip -n isp link set isp0 addrgenmode none up
ip link set up1 addrgenmode none up
ip -n isp addr add 198.18.0.1/24 dev isp0
ip -n isp addr add 198.51.100.7/32 dev lo
ip addr add 198.18.0.2/24 dev up1
sysctl -qw net.ipv4.conf.up1.rp_filter=1`

func pings(t *testing.T, from, to, when string) {
	t.Helper()
	lab.Eventually(t, patience*3*time.Second, from+" reaches "+to+" "+when, func() bool { return lab.Pings(from, to) })
}

// Guests leave by the uplink that the profile names, though the host leaves by another, and
// follow its gateway, its cable and a default route that comes while they run.
func TestPinnedUplink(t *testing.T) {
	lab.Require(t, lab.Tun)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, secondISP)
		o := labOptions(t)
		told := &notes{}
		o.Note = told.add
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, Uplink: "up1"}
		before := lab.Snapshot(t, o.RunDir)

		r := mustJoin(t, o, n, "web", port(1))
		if notes := r.Info().Notes; len(notes) != 1 || !strings.Contains(notes[0], "no default route leads by it") {
			t.Errorf("without a default route: notes %q", notes)
		}
		guests(t, n)
		pings(t, "vm1", "198.18.0.1", "on the link")
		lab.Sh(t, "ip route add default via 198.18.0.1 metric 500")
		pings(t, "vm1", "198.51.100.7", "when the default route is there")
		if lab.Pings("vm1", "203.0.113.1") || !lab.Pings("", "203.0.113.1") {
			t.Error("the guest leaves by the host's uplink, or the host does not")
		}
		lab.Sh(t, "ip -n isp addr flush dev isp0; ip -n isp addr add 198.18.0.3/24 dev isp0; ip route change default via 198.18.0.3 metric 500")
		pings(t, "vm1", "198.51.100.7", "by another gateway")
		lab.Sh(t, "ip link set up1 down; ip link set up1 up; ip route add default via 198.18.0.3 metric 500")
		pings(t, "vm1", "198.51.100.7", "after the link was down")
		lab.Sh(t, "ip rule del priority $(ip rule | sed -n 's/:.*iif qn-dev lookup 11300.*//p')")
		pings(t, "vm1", "198.51.100.7", "after another program deleted the rule")
		lab.Sh(t, removeGuests)
		mustLeave(t, r)
		lab.Sh(t, "ip route del default metric 500")
		before.Check(t)
		lab.Sh(t, "ip route add default via 198.18.0.3 metric 500")

		// The default route first.
		before = lab.Snapshot(t, o.RunDir)
		r = mustJoin(t, o, n, "web", port(1))
		if notes := r.Info().Notes; len(notes) > 0 {
			t.Errorf("with a default route: notes %q", notes)
		}
		guests(t, n)
		pings(t, "vm1", "198.51.100.7", "at once")
		lab.Sh(t, removeGuests)
		mustLeave(t, r)
		before.Check(t)
	})
}

// Guests reach a second LAN on a bridge of the administrator, one that comes later as well, and
// a tunnel without an address; no other link of the host newly reaches anything by them.
func TestSecondLAN(t *testing.T) {
	lab.Require(t, lab.Tun)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		second := func(i string) string {
			return strings.ReplaceAll(`
ip netns add lanX
ip link add enX type veth peer name portX netns lanX
ip -n lanX link set portX addrgenmode none up
ip -n lanX addr add 10.8X.0.1/24 dev portX
ip -n lanX route add 10.0.0.0/8 via 10.8X.0.2
ip link add vmbrX type bridge
ip link set vmbrX addrgenmode none up
ip link set enX addrgenmode none master vmbrX up
ip addr add 10.8X.0.2/24 dev vmbrX`, "X", i)
		}
		lab.Sh(t, second("1"))
		// The bridge has a VM of the administrator's, too, whose frames br_netfilter shows.
		lab.Guest(t, "other", "vmbr1", "10.81.0.9/24", "")
		lab.Try("sysctl -qw net.bridge.bridge-nf-call-iptables=1")
		o := labOptions(t)
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.77.0.0/24")}
		r := mustJoin(t, o, n, "web", port(1))
		guests(t, n)
		pings(t, "vm1", "10.81.0.1", "on the bridge that was there")
		if !lab.Pings("other", "10.81.0.1") {
			t.Error("the administrator's VM is cut off from its LAN")
		}
		lab.Try("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
		lab.Sh(t, second("2"))
		pings(t, "vm1", "10.82.0.1", "on the bridge that came")
		if lab.Pings("lan1", "10.82.0.1") || lab.Pings("lan1", "10.77.0.9") {
			t.Error("the host forwards between its LANs, or to guests")
		}
		lab.Sh(t, removeGuests)
		mustLeave(t, r)
		for _, l := range []string{"vmbr1", "vmbr2", "eth0"} {
			if v, err := host.ReadSysctl(host.ForwardingKey(l)); err != nil || v != "0" {
				t.Errorf("forwarding of %s is %q, %v", l, v, err)
			}
		}
	})
}

// The keeper notes a way for guests alone that comes while VMs run.
func TestOtherWayIsNoted(t *testing.T) {
	lab.Require(t, lab.Tun)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, secondISP)
		o := labOptions(t)
		told := &notes{}
		o.Note = told.add
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Sh(t, "ip route add default via 198.18.0.1 table 7; ip rule add iif qn-dev lookup 7")
		lab.Eventually(t, patience*3*time.Second, "the note", func() bool {
			return told.count("guests of network dev leave by up1, and this host's own packets by eth0") == 1
		})
		mustLeave(t, r)
	})
}
