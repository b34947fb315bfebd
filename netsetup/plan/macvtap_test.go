package plan

import (
	"errors"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/profiles"
)

// A NIC serves VMs by a bridge or by macvtap. The refusal names the network that has it.
func TestMacvtapAndBridgeDoNotMix(t *testing.T) {
	f := hosttest.Laptop()
	f.Links = append(f.Links,
		host.Link{Index: 20, Name: "qn-lan", Kind: "bridge", Ethernet: true, Alias: "qnet:lan"},
		host.Link{Index: 21, Name: "eth8", Kind: "device", Ethernet: true, Master: 20},
		host.Link{Index: 22, Name: "qnweb0", Kind: "tun", Ethernet: true, Master: 20, Alias: "qnet:lan/web/0"},
		host.Link{Index: 23, Name: "qnweb1", Kind: "tun", Ethernet: true, Master: 20, Alias: "qnet:lan/web/1"},
		host.Link{Index: 24, Name: "eth9", Kind: "device", Ethernet: true},
		host.Link{Index: 25, Name: "qndb0", Kind: "macvtap", Ethernet: true, Parent: 24, Alias: "qnet:office/db/0"},
	)
	for _, c := range []struct {
		n    Network
		want string
	}{
		{Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth8"}, `plan network "a": uplink "eth8" is a port of network "lan" (VM web)`},
		{Network{Name: "a", Mode: profiles.Bridge, Uplink: "eth9"}, `plan network "a": uplink "eth9" carries network "office" (VM db) by macvtap`},
	} {
		if _, err := New(c.n, f, Options{Salt: hosttest.Salt}); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want a refusal with %q", err, c.want)
		}
	}
	if _, err := New(Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth9"}, f, Options{Salt: hosttest.Salt}); err != nil {
		t.Errorf("a second network by macvtap: %v", err)
	}
}
