package netsetup

import (
	"errors"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/profiles"
)

// A NIC serves VMs by a bridge or by macvtap; who has it is named.
func TestMacvtapAndBridgeDoNotMix(t *testing.T) {
	f := laptop()
	f.Links = append(f.Links,
		Link{Index: 20, Name: "qn-lan", Kind: "bridge", Ethernet: true, Alias: "qnet:lan"},
		Link{Index: 21, Name: "eth8", Kind: "device", Ethernet: true, Master: 20},
		Link{Index: 22, Name: "qnweb0", Kind: "tun", Ethernet: true, Master: 20, Alias: "qnet:lan/web/0"},
		Link{Index: 23, Name: "qnweb1", Kind: "tun", Ethernet: true, Master: 20, Alias: "qnet:lan/web/1"},
		Link{Index: 24, Name: "eth9", Kind: "device", Ethernet: true},
		Link{Index: 25, Name: "qndb0", Kind: "macvtap", Ethernet: true, Parent: 24, Alias: "qnet:office/db/0"},
	)
	for _, c := range []struct {
		n    Network
		want string
	}{
		{Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth8"}, `plan network "a": uplink "eth8" is a port of network "lan" (VM web)`},
		{Network{Name: "a", Mode: profiles.Bridge, Uplink: "eth9"}, `plan network "a": uplink "eth9" carries network "office" (VM db) by macvtap`},
	} {
		if _, err := NewPlan(c.n, f, PlanOptions{Salt: testSalt}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want a refusal with %q", err, c.want)
		}
	}
	if _, err := NewPlan(Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth9"}, f, PlanOptions{Salt: testSalt}); err != nil {
		t.Errorf("a second network by macvtap: %v", err)
	}
}
