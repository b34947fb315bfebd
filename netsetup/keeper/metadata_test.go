package keeper_test

import (
	"errors"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// Promise P16: a guest of nat gets no answer from the metadata of the host's cloud, neither
// from behind the uplink nor by a rule that redirects it to the host, and that is counted;
// where the profile opens it, it does.
func TestMetadataIsClosed(t *testing.T) {
	const cloud, ofHost = "169.254.169.254", "169.254.170.2"
	for name, open := range map[string]bool{"closed": false, "metadata = true": true} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				lab.Sh(t, `ip -n inet addr add `+cloud+`/32 dev lo; ip route add `+cloud+` via 192.0.2.1
nft 'add table ip agent; add chain ip agent pre { type nat hook prerouting priority -100; }; add rule ip agent pre ip daddr `+ofHost+` redirect'`)
				n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, Metadata: open}
				r := mustJoin(t, o, n, "web", port(1))
				natGuest(t)
				if !lab.Pings("guest", "203.0.113.1") {
					t.Error("the guest does not reach the outside")
				}
				for _, to := range []string{cloud, ofHost} {
					if got := lab.Pings("guest", to); got != open {
						t.Errorf("%s answers: %t", to, got)
					}
				}
				if _, err := lab.Try("ping -c1 -W2 " + cloud); err != nil {
					t.Errorf("the host itself: %v", err)
				}
				infos, err := List(t.Context(), o.RunDir)
				if err != nil || len(infos) != 1 || (len(infos[0].Dropped) == 1 && infos[0].Dropped[0].Packets > 1) == open {
					t.Errorf("counted %+v, %v", infos, err)
				}
				n.Metadata = !open
				if _, err := Join(t.Context(), o, n, "other", port(2)); !errors.Is(err, host.ErrRefused) {
					t.Errorf("a VM that wants it otherwise: %v", err)
				}
				lab.Sh(t, "ip netns del guest")
				mustLeave(t, r)
				lab.Sh(t, "ip -n inet addr del "+cloud+"/32 dev lo; ip route del "+cloud+"; nft delete table ip agent")
			})
		})
	}
}
