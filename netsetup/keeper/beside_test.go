package keeper

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/neighbour"
	"github.com/qnet-vm/qnet/internal/nstest"
	"github.com/qnet-vm/qnet/netsetup"
	"github.com/qnet-vm/qnet/profiles"
)

// coexist skips what only `make coexist` runs.
func coexist(t *testing.T) {
	t.Helper()
	if os.Getenv("QNET_COEXIST") == "" {
		t.Skip("make coexist runs it")
	}
}

// Beside another program, whoever was first, all that a mode promises passes, and
// again after that program reloaded; it does its own job meanwhile and afterwards,
// and everything of its own is as it was.
func TestBeside(t *testing.T) {
	coexist(t)
	for _, nb := range []neighbour.Neighbour{neighbour.Libvirt(), neighbour.Firewalld().Neighbour} {
		for _, mode := range []profiles.Mode{profiles.NAT, profiles.HostOnly, profiles.Private} {
			for _, first := range []bool{false, true} {
				name := nb.Name + "/" + string(mode) + map[bool]string{false: " second", true: " first"}[first]
				t.Run(name, func(t *testing.T) { besideCell(t, nb, mode, first) })
			}
		}
	}
}

func besideCell(t *testing.T, nb neighbour.Neighbour, mode profiles.Mode, first bool) {
	nstest.Require(t, append(nb.Needs, nstest.Tun)...)
	nstest.Run(t, func(t *testing.T) {
		nstest.Lab(t)
		o := labOptions(t)
		n := Network{Name: "dev", Mode: mode}
		if mode != profiles.Private {
			n.Subnet = subnet
		}
		var r *Registration
		join := func() {
			r = mustJoin(t, o, n, "web", port(1))
			guests(t, n)
		}
		if first {
			join()
		}
		nb.Start(t)
		state := ""
		if !first {
			state = nb.State(t)
			join()
		}
		mustPass(t, n, "started")
		nb.Reload(t)
		mustPass(t, n, "reloaded")
		works := func(when string) {
			if err := nb.Works(t); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		works("beside qnet")
		nstest.Sh(t, removeGuests)
		mustLeave(t, r)
		works("after qnet has gone")
		now := nb.State(t)
		if first { // so it is without qnet
			nb.Reload(t)
			state = nb.State(t)
		}
		sameState(t, "afterwards", state, now)
		if strings.Contains(now, "qn-dev") {
			t.Errorf("it still knows the bridge:\n%s", now)
		}
	})
}

// Neither takes the other's subnet: qnet refuses, naming libvirt's bridge, and
// chooses another where it may; libvirt, started later, refuses in its own words.
func TestSubnetsBesideLibvirt(t *testing.T) {
	coexist(t)
	nb := neighbour.Libvirt()
	nstest.Require(t, append(nb.Needs, nstest.Tun)...)
	nstest.Run(t, func(t *testing.T) {
		nstest.Lab(t)
		o := labOptions(t)
		nb.Start(t)
		theirs := netip.MustParsePrefix("192.168.122.0/24")
		_, err := Join(t.Context(), o, Network{Name: "dev", Mode: profiles.NAT, Subnet: theirs}, "web", port(1))
		if !errors.Is(err, netsetup.ErrRefused) || !strings.Contains(err.Error(), "virbr0") {
			t.Errorf("got %v", err)
		}
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT}, "web", port(1))
		if theirs.Overlaps(r.Info().Prefix) {
			t.Errorf("chose %s", r.Info().Prefix)
		}
		mustLeave(t, r)
		nstest.Sh(t, "virsh -q -c network:///system net-destroy default; ip link del vlibvirtvm")
		r = mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: theirs}, "web", port(1))
		out, err := nstest.Try("virsh -q -c network:///system net-start default")
		if err == nil || !strings.Contains(out, "in use by interface qn-dev") {
			t.Errorf("libvirt says %q, %v", out, err)
		}
		mustLeave(t, r)
		nstest.Sh(t, "virsh -q -c network:///system net-start default")
	})
}
