package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/netsetup/ways"
	"github.com/qnet-vm/qnet/profiles"
)

// longName is an alternative name that no link could have as its name.
const longName = "enx0123456789abcdef0123456789abcdef"

// An alternative name is as good as the name: the plan is the same, and names the link.
func TestAlternativeNames(t *testing.T) {
	f := hosttest.Settled()
	f.Links[1].AltNames = []string{"enp2s0", longName} // eth0
	f.Links[5].AltNames = []string{"lan"}              // br0
	for alt, name := range map[string]string{"enp2s0": "eth0", longName: "eth0", "lan": "br0"} {
		for _, n := range []Network{
			{Name: "a", Mode: profiles.NAT}, {Name: "a", Mode: profiles.Bridge}, {Name: "a", Mode: profiles.Bridge, Macvtap: true},
		} {
			if n.Macvtap && alt == "lan" {
				continue // refused: a bridge
			}
			n.Uplink = name
			want := mustPlan(t, n, f)
			n.Uplink = alt
			got := mustPlan(t, n, f)
			if got.Network.Uplink != name || got.Network.Asked != alt || !slices.Equal(got.Uplinks, want.Uplinks) || got.Bridge != want.Bridge {
				t.Errorf("%s: got uplink %q asked as %q, uplinks %v, bridge %s", alt, got.Network.Uplink, got.Network.Asked, got.Uplinks, got.Bridge)
			}
			if a, b := steptest.Script(got.Steps), steptest.Script(want.Steps); a != b {
				t.Errorf("%s: got\n%s\nwant\n%s", alt, a, b)
			}
		}
	}
}

// A refusal has both names, and one about a name that no link has says which there are.
func TestRefusalsHaveBothNames(t *testing.T) {
	f := hosttest.Laptop()
	f.Links[2].AltNames = []string{"wlp3s0"} // wlan0
	f.Links[6].AltNames = []string{longName} // eth2, a port of br0
	many := hosttest.Laptop()
	for _, c := range []struct {
		n    Network
		f    host.Facts
		want string
	}{
		{Network{Mode: profiles.Bridge, Uplink: "wlp3s0"}, f, `uplink "wlp3s0" (an alternative name of wlan0) is a Wi-Fi link`},
		{Network{Mode: profiles.Bridge, Uplink: longName}, f, `uplink "` + longName + `" (an alternative name of eth2) already is a port of br0: use uplink = "br0"`},
		{Network{Mode: profiles.NAT, Uplink: "wlp4s0"}, f, `uplink "wlp4s0": there is no such link: name one of eth0, wlan0 (wlp3s0), docker0, `},
		{Network{Mode: profiles.NAT, Uplink: "wlp4s0"}, many, `3 more; or leave uplink out`},
		{Network{Mode: profiles.NAT, Uplink: "eth0"}, host.Facts{}, `there is no such link, nor any other: leave uplink out`},
	} {
		c.n.Name = "a"
		if _, err := New(c.n, c.f, salted); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// besides is a host on which networks run: "lan" has moved the host from eth8 to its bridge,
// and "lab" is private.
func besides() host.Facts {
	f := hosttest.Laptop()
	f.Links = append(f.Links,
		host.Link{Index: 20, Name: "qn-lan", Kind: "bridge", Ethernet: true, Alias: "qnet:lan", Up: true, MTU: 1500, Addresses: f.Links[1].Addresses},
		host.Link{Index: 21, Name: "eth8", Kind: "device", Ethernet: true, Up: true, MTU: 1500, Master: 20, AltNames: []string{"enp8s0"}},
		host.Link{Index: 22, Name: "qnweb0", Kind: "tun", Ethernet: true, Master: 20, Alias: "qnet:lan/web/0"},
		host.Link{Index: 23, Name: "qn-lab", Kind: "bridge", Ethernet: true, Alias: "qnet:lab", Up: true, MTU: 1500},
	)
	f.Routes[0].Link, f.Routes[1].Link = "qn-lan", "qn-lan"
	f.Ways = []ways.Way{{Link: 20, Via: f.Routes[0].Via}}
	return f
}

// A bridge of qnet's is no administrator's: it goes with its network. Another network must
// not join it, by whatever name, and gets to know the way out.
func TestBridgesOfOtherNetworks(t *testing.T) {
	const share = `which ends with that network's last VM: put the NICs of both VMs on one network (network = "lan"), stop the VMs of one, name another NIC, or use mode = "nat"`
	for _, c := range []struct {
		n    Network
		want string
	}{
		{Network{Mode: profiles.Bridge}, `uplink "qn-lan" is the bridge of qnet's network "lan" (VM web), ` + share},
		{Network{Mode: profiles.Bridge, Uplink: "qn-lan"}, `uplink "qn-lan" is the bridge of qnet's network "lan" (VM web), ` + share},
		{Network{Mode: profiles.Bridge, Uplink: "eth8"}, `uplink "eth8" is a port of qn-lan, the bridge of qnet's network "lan" (VM web), ` + share},
		{Network{Mode: profiles.Bridge, Uplink: "enp8s0"}, `uplink "enp8s0" (an alternative name of eth8) is a port of qn-lan, the bridge of`},
		{Network{Mode: profiles.Bridge, Uplink: "qn-lab"}, `uplink "qn-lab" is the bridge of qnet's network "lab" (no VM yet), which leads to no LAN: name the host's NIC`},
		{Network{Mode: profiles.Bridge, Uplink: "qnweb0"}, `uplink "qnweb0" is qnet's own link: name the host's NIC`},
		{Network{Mode: profiles.Bridge, Macvtap: true}, `uplink "qn-lan" is the bridge of network "lan" (VM web), which is in mode bridge without macvtap`},
		{Network{Mode: profiles.Bridge, Macvtap: true, Uplink: "qn-lab"}, `uplink "qn-lab" is the bridge of qnet's network "lab" (no VM yet), which leads to no LAN`},
		{Network{Mode: profiles.NAT, Uplink: "qn-lan"}, `uplink "qn-lan" is the bridge of qnet's network "lan" (VM web), and ends with that network's last VM: name its NIC, uplink = "eth8", or leave uplink out`},
		{Network{Mode: profiles.NAT, Uplink: "qn-lab"}, `uplink "qn-lab" leads nowhere outside`},
	} {
		c.n.Name = "a"
		if _, err := New(c.n, besides(), salted); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got  %v\nwant %s", c.n, err, c.want)
		}
	}
}

// The bridge of the network itself is joined where the network runs. A bridge that bears its
// mark is another run directory's where it does not.
func TestOwnBridge(t *testing.T) {
	runs := salted
	runs.Runs = true
	for _, uplink := range []string{"", "qn-lan", "eth8", "enp8s0"} {
		n := Network{Name: "lan", Mode: profiles.Bridge, Uplink: uplink}
		if p, err := New(n, besides(), runs); err != nil || p.Bridge != "qn-lan" || len(p.Steps) != 0 {
			t.Errorf("uplink %q: bridge %q, steps %v, %v", uplink, p.Bridge, p.Steps, err)
		}
		const want = `plan network "lan": qn-lan bears the mark of network "lan", but VMs of another run directory have it, or left it`
		if _, err := New(n, besides(), salted); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("uplink %q: got %v, want %s", uplink, err, want)
		}
	}
}

// Guests of a nat network whose uplink is a port of qnet's bridge leave by that bridge.
func TestPinnedUplinkThatIsAPort(t *testing.T) {
	p := mustPlan(t, Network{Name: "a", Mode: profiles.NAT, Uplink: "enp8s0"}, besides())
	if want := []string{"eth8", "qn-lan"}; !slices.Equal(p.Uplinks, want) {
		t.Errorf("uplinks %v, want %v", p.Uplinks, want)
	}
	if words := steptest.Script(p.Steps); !strings.Contains(words, `elements = { "eth8", "qn-lan" }`) {
		t.Errorf("the rules do not let out by both:\n%s", words)
	}
}
