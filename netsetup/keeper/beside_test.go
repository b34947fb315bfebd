package keeper_test

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// coexist skips what only `make coexist` runs.
func coexist(t *testing.T) {
	t.Helper()
	if os.Getenv("QNET_COEXIST") == "" {
		t.Skip("make coexist runs it")
	}
}

// qnet and libvirt do not take each other's subnet. qnet refuses a profile that asks
// for libvirt's, and names libvirt's bridge; without a wish it chooses another. libvirt
// refuses to start on qnet's subnet.
func TestSubnetsBesideLibvirt(t *testing.T) {
	coexist(t)
	nb := programs.Libvirt()
	lab.Require(t, append(nb.Needs, lab.Tun)...)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		o := labOptions(t)
		nb.Start(t)
		theirs := netip.MustParsePrefix("192.168.122.0/24")
		_, err := Join(t.Context(), o, Network{Name: "dev", Mode: profiles.NAT, Subnet: theirs}, "web", port(1))
		if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "virbr0") {
			t.Errorf("got %v", err)
		}
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT}, "web", port(1))
		if theirs.Overlaps(r.Info().Prefix) {
			t.Errorf("chose %s", r.Info().Prefix)
		}
		mustLeave(t, r)
		lab.Sh(t, "virsh -q -c network:///system net-destroy default; ip link del vlibvirtvm")
		r = mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: theirs}, "web", port(1))
		out, err := lab.Try("virsh -q -c network:///system net-start default")
		if err == nil || !strings.Contains(out, "in use by interface qn-dev") {
			t.Errorf("libvirt says %q, %v", out, err)
		}
		mustLeave(t, r)
		lab.Sh(t, "virsh -q -c network:///system net-start default")
	})
}
