package keeper_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// A NIC has one network in mode bridge. Another one is refused, by whatever name it comes to
// the NIC or the bridge, and changes nothing. So is the same network of another run directory.
func TestOneNICOneBridge(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		o.AssumeYes = true
		r := mustJoin(t, o, lanNetwork, "web", port(1))
		before := lab.Snapshot(t)
		for uplink, want := range map[string]string{
			"": "the bridge of qnet's network \"lan\" (VM web)", "eth0": `put the NICs of both VMs on one network (network = "lan")`, "qn-lan": "which ends with that network's last VM",
		} {
			n := Network{Name: "lan2", Mode: profiles.Bridge, Uplink: uplink}
			if _, err := Join(t.Context(), o, n, "db", port(2)); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("uplink %q: %v, want a refusal with %s", uplink, err, want)
			}
		}
		n := Network{Name: "lan2", Mode: profiles.Bridge, Macvtap: true}
		if _, err := Join(t.Context(), o, n, "db", port(2)); !errors.Is(err, host.ErrRefused) {
			t.Errorf("by macvtap: %v, want a refusal", err)
		}
		other := labOptions(t)
		other.AssumeYes = true
		if _, err := Join(t.Context(), other, lanNetwork, "db", port(2)); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "VMs of another run directory have it") {
			t.Errorf("of another run directory: %v, want a refusal", err)
		}
		before.Check(t)
		mustLeave(t, mustJoin(t, o, Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}, "db", port(2))) // the same network
		mustLeave(t, r)
		mustLeave(t, mustJoin(t, o, Network{Name: "lan2", Mode: profiles.Bridge}, "db", port(2)))
	})
}

// Guests of a nat network that names its uplink stay online while a network in mode bridge
// moves the host from that NIC to a bridge, and back, whichever of the two is first.
func TestPinnedUplinkBecomesAPort(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		o.AssumeYes = true
		pinned := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, Uplink: "eth0"}
		online := func(when string) {
			t.Helper()
			lab.Eventually(t, 5*time.Second, "the guest online "+when, func() bool { return lab.Pings("vm1", "203.0.113.1") })
		}
		r := mustJoin(t, o, pinned, "web", port(1))
		lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		online("at first")
		lan := mustJoin(t, o, lanNetwork, "db", port(2))
		online("while the NIC is a port")
		mustLeave(t, lan)
		online("when the NIC is back")
		lab.Sh(t, "ip link del vvm1; ip netns del vm1")
		mustLeave(t, r)

		lan = mustJoin(t, o, lanNetwork, "db", port(2))
		r = mustJoin(t, o, pinned, "web", port(1))
		lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		online("by the bridge")
		mustLeave(t, lan)
		online("by the NIC")
		lab.Sh(t, "ip link del vvm1; ip netns del vm1")
		mustLeave(t, r)
	})
}

// Two networks by macvtap share a NIC, also one that was down: it stays up for the second.
func TestTwoMacvtapNetworksOnOneNIC(t *testing.T) {
	lab.Require(t, lab.Root)
	for _, state := range []string{"up", "down"} {
		t.Run(state, func(t *testing.T) {
			start := func(t *testing.T) {
				lab.Sh(t, "ip link add eth1 type veth peer name lan1 netns inet; ip -n inet link set lan1 up; ip link set eth1 addrgenmode none up")
				lab.Eventually(t, 5*time.Second, "a carrier", func() bool { return strings.Contains(lab.Sh(t, "ip link show eth1"), "state UP") })
				lab.Sh(t, "ip link set eth1 "+state)
			}
			beside(t, start, func(t *testing.T, o Options) {
				n := func(name string) Network {
					return Network{Name: name, Mode: profiles.Bridge, Macvtap: true, Uplink: "eth1"}
				}
				webLives, dbLives := supervised(t, o, "web"), supervised(t, o, "db")
				web, db := mustJoin(t, o, n("one"), "web", port(1)), mustJoin(t, o, n("two"), "db", port(2))
				if !passes(t, web, db) {
					t.Error("two VMs do not reach each other")
				}
				mustLeave(t, web)
				webLives()
				lab.Sh(t, "ip link show qndb0; ip link show eth1 | grep -q '[<,]UP'")
				mustLeave(t, db)
				dbLives()
			})
		})
	}
}

// An alternative name of another link is taken as a name is: the kernel refuses it.
func TestAlternativeNameOfOurs(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		for _, name := range []string{"qn-dev", "qnweb0"} {
			lab.Sh(t, "ip link property add dev eth0 altname "+name)
			_, err := Join(t.Context(), o, Network{Name: "dev", Mode: profiles.Private}, "web", port(1))
			want := name + `": eth0 has that as an alternative name (ip link property del dev eth0 altname ` + name + `)`
			if !errors.Is(err, host.ErrNotOurs) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			lab.Sh(t, "ip link property del dev eth0 altname "+name)
		}
	})
}
