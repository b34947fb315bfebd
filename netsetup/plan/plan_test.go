package plan

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/defined"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

var update = flag.Bool("update", false, "write the golden files")

// goldenNetworks are what goldenPlan plans, by a golden file's name.
var goldenNetworks = map[string]Network{
	"private":        {Mode: profiles.Private},
	"host-only":      {Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("192.168.223.0/24")},
	"nat":            {Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24")},
	"host-only-ipv6": {Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("192.168.223.0/24"), IPv6: true, Subnet6: netip.MustParsePrefix("fd12:3456:789a:1::/64")},
	"nat-ipv6":       {Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24"), IPv6: true, Subnet6: netip.MustParsePrefix("fd12:3456:789a:1::/64")},
	"nat-ipv6-all":   {Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24"), IPv6: true, Subnet6: netip.MustParsePrefix("fd12:3456:789a:1::/64")},
	"pinned":         {Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24"), Uplink: "eth1"},
	"bridge":         {Mode: profiles.Bridge, Uplink: "eth1"},
	"move":           {Mode: profiles.Bridge},
	"macvtap":        {Mode: profiles.Bridge, Uplink: "eth0", Macvtap: true},
}

// goldenPlan is the plan of one of goldenNetworks, as commands.
func goldenPlan(t *testing.T, name string) string {
	t.Helper()
	n := goldenNetworks[name]
	n.Name = name
	p, err := New(n, hosttest.Facts(name), Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	port := p.PortSteps(guarded(p))
	if len(p.Steps) == 0 {
		return "# for each NIC\n" + steptest.Script(port) + "\n\n# afterwards\n" + apply.UndoScript(port) + "\n"
	}
	return "# set up\n" + steptest.Script(p.Steps) + "\n\n# for each NIC\n" + steptest.Script(port) +
		"\n\n# afterwards\n" + apply.UndoScript(port) + "\n" + apply.UndoScript(p.Steps) + "\n"
}

func TestPlanGolden(t *testing.T) {
	for name := range goldenNetworks {
		t.Run(name, func(t *testing.T) {
			got := goldenPlan(t, name)
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("plan differs from %s (go test -update writes it):\n%s", path, got)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	pin := netip.MustParsePrefix
	for name, c := range map[string]struct {
		network Network
		want    string
	}{
		"subnet-of-an-address":      {Network{Name: "a", Mode: profiles.NAT, Subnet: pin("192.0.2.0/25")}, "address 192.0.2.10/24 on eth0: choose another, such as 10."},
		"subnet-around-an-address":  {Network{Name: "a", Mode: profiles.NAT, Subnet: pin("172.17.0.0/20")}, "docker0"},
		"subnet-of-another-table":   {Network{Name: "a", Mode: profiles.HostOnly, Subnet: pin("192.168.100.0/24")}, "table 51820"},
		"subnet-of-a-resolver":      {Network{Name: "a", Mode: profiles.NAT, Subnet: pin("192.168.200.0/24")}, "nameserver 192.168.200.53"},
		"nat-uplink-missing":        {Network{Name: "a", Mode: profiles.NAT, Uplink: "eth9"}, "no such link"},
		"nat-uplink-loopback":       {Network{Name: "a", Mode: profiles.NAT, Uplink: "lo"}, "leads nowhere"},
		"bridge-uplink-missing":     {Network{Name: "a", Mode: profiles.Bridge, Uplink: "eth9"}, "no such link"},
		"bridge-uplink-wifi":        {Network{Name: "a", Mode: profiles.Bridge, Uplink: "wlan0"}, "Wi-Fi"},
		"bridge-uplink-loopback":    {Network{Name: "a", Mode: profiles.Bridge, Uplink: "lo"}, "loopback"},
		"bridge-uplink-tun":         {Network{Name: "a", Mode: profiles.Bridge, Uplink: "tun0"}, "not an Ethernet NIC"},
		"bridge-uplink-is-a-port":   {Network{Name: "a", Mode: profiles.Bridge, Uplink: "eth2"}, `use uplink = "br0"`},
		"bridge-uplink-has-macvlan": {Network{Name: "a", Mode: profiles.Bridge, Uplink: "eth3"}, "mv0"},
		"macvtap-wifi":              {Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "wlan0"}, "Wi-Fi"},
		"macvtap-loopback":          {Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "lo"}, "loopback"},
		"macvtap-tun":               {Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "tun0"}, "not an Ethernet NIC"},
		"macvtap-missing":           {Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth9"}, "no such link"},
		"macvtap-on-a-bridge":       {Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "br0"}, "leave macvtap out"},
		"macvtap-on-a-port":         {Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth2"}, `(EBUSY): use uplink = "br0" without macvtap`},
		"macvtap-under-ipvlan":      {Network{Name: "a", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth5"}, "has ipv0 of kind ipvlan on top"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.network, hosttest.Laptop(), Options{Salt: hosttest.Salt})
			if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}

// A plan refuses a NIC that carries the host in a way that a bridge cannot take over.
func TestMoveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *host.Facts)
		want   string
	}{
		"down":           {func(f *host.Facts) { f.Links[1].Up = false }, "is down"},
		"xdp":            {func(f *host.Facts) { f.NIC.Hooks = []string{"an XDP program"} }, "an XDP program attached"},
		"stable-privacy": {func(f *host.Facts) { f.NIC.GenMode = host.GenModeStable }, "stable-privacy"},
		"nexthop-object": {func(f *host.Facts) {
			f.NIC.Held.Routes[0].Message = rtnl.Append(f.NIC.Held.Routes[0].Message, rtnl.Uint32(30, 7))
		}, "nexthop object"},
		"macvlan":              {func(f *host.Facts) { f.Links[1].OwnMAC, f.Links[1].Parent = true, 5 }, `use uplink = "eth1" with macvtap = true`},
		"macvlan-of-elsewhere": {func(f *host.Facts) { f.Links[1].OwnMAC = true }, `its own MAC alone: use mode = "nat"`},
		"bond":                 {func(f *host.Facts) { f.Links[1].Master, f.Links[5].Kind = 6, "bond" }, `is a link of the bond br0: use uplink = "br0"`},
		"vrf":                  {func(f *host.Facts) { f.Links[1].Master, f.Links[5].Kind = 6, "vrf" }, "is in the VRF br0"},
		"connman": {func(f *host.Facts) {
			f.NIC.Client = managers.Client{Program: managers.ConnMan, Link: "eth0", Refusal: "is configured by ConnMan"}
		}, `uplink "eth0" is configured by ConnMan`},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.Settled()
			c.change(&f)
			_, err := New(Network{Name: "a", Mode: profiles.Bridge, Uplink: "eth0"}, f, Options{Salt: hosttest.Salt})
			if !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}

// A note names the rules that name the NIC, because they match nothing by the bridge.
func TestMoveTellsOfRulesThatNameTheNIC(t *testing.T) {
	f := hosttest.Settled()
	f.Filters.Tables = []filters.Table{{Engine: filters.NFTables, Family: nft.INet, Name: "mine", Chains: []filters.Chain{
		{Name: "in", Rules: []filters.Rule{
			{Text: `iifname "eth0" tcp dport 22 accept`}, {Text: `iifname "eth01" drop`}, {Text: `iifname { "eth0", "eth1" } drop`},
		}},
	}}}
	p, err := New(Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}, f, Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(p.Notes, "\n")
	if !strings.Contains(all, `mine in: iifname \"eth0\" tcp dport 22 accept`) || !strings.Contains(all, "and 1 more") {
		t.Errorf("got %s", all)
	}
}

func TestBridgeOfTheAdministratorIsJoined(t *testing.T) {
	p, err := New(Network{Name: "lan", Mode: profiles.Bridge, Uplink: "br0"}, hosttest.Laptop(), Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	if p.Bridge != "br0" || len(p.Steps) != 0 || !p.STP || len(p.Notes) != 1 {
		t.Errorf("got bridge %s, %d steps, waits %v, notes %q; want br0, none, true, one", p.Bridge, len(p.Steps), p.STP, p.Notes)
	}
}

// A note tells who pins a subnet of a network that another program defined and that is down.
func TestSubnetOfADefinedNetwork(t *testing.T) {
	pinned := netip.MustParsePrefix("192.168.223.0/24")
	f := hosttest.Laptop()
	f.Defined = []defined.Network{{Prefix: pinned, By: `the network "default" of libvirt`}}
	p, err := New(Network{Name: "dev", Mode: profiles.HostOnly, Subnet: pinned}, f, Options{Salt: hosttest.Salt})
	if err != nil || !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, `"default" of libvirt`) }) {
		t.Errorf("got %q, %v", p.Notes, err)
	}
}

// A nat network whose uplinks all carry jumbo frames carries them, too.
func TestMTUOfNAT(t *testing.T) {
	for name, c := range map[string]struct {
		mtus []int
		want int
	}{
		"usual": {[]int{1500}, 1500}, "jumbo": {[]int{9000}, 9000}, "jumbo and usual": {[]int{9000, 1500}, 1500},
		"two jumbo": {[]int{9000, 4000}, 4000}, "with a tunnel": {[]int{9000, 1420}, 1500}, "none": {nil, 1500},
	} {
		f := hosttest.Laptop()
		f.Links, f.Routes = f.Links[:1:1], nil
		for i, mtu := range c.mtus {
			name := fmt.Sprintf("up%d", i)
			f.Links = append(f.Links, host.Link{Index: 100 + i, Name: name, Kind: "device", Ethernet: true, MTU: mtu})
			f.Routes = append(f.Routes, host.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: name, Table: 254})
		}
		p, err := New(Network{Name: "dev", Mode: profiles.NAT}, f, Options{Salt: hosttest.Salt})
		if err != nil {
			t.Fatal(err)
		}
		if p.MTU != c.want {
			t.Errorf("%s: MTU %d, want %d", name, p.MTU, c.want)
		}
	}
}

// The MTU of a profile is the bridge's and the taps', whatever the uplinks carry.
func TestChosenMTU(t *testing.T) {
	for _, c := range []struct {
		network Network
		note    string // "" for none
	}{
		{Network{Mode: profiles.Private, MTU: 9000}, ""},
		{Network{Mode: profiles.HostOnly, MTU: 576}, ""},
		{Network{Mode: profiles.HostOnly, MTU: 65521}, ""},
		{Network{Mode: profiles.NAT, MTU: 1280}, ""},
		{Network{Mode: profiles.NAT, MTU: 1500}, ""}, // tun0 has 1420, which is worth no note
		{Network{Mode: profiles.NAT, MTU: 9000}, "network dev has mtu 9000 and its uplink eth0 1500: the host cuts what guests send outside to that"},
	} {
		c.network.Name = "dev"
		p, err := New(c.network, hosttest.Laptop(), Options{Salt: hosttest.Salt})
		if err != nil {
			t.Fatal(err)
		}
		want := c.network.MTU
		bridge, tap := p.Steps[slices.IndexFunc(p.Steps, isAddBridge)].(step.AddBridge), p.PortSteps(NIC{VM: "web"})[0].(step.AddTap)
		if p.MTU != want || bridge.MTU != want || tap.MTU != want {
			t.Errorf("%+v: the plan has %d, the bridge %d, the tap %d", c.network, p.MTU, bridge.MTU, tap.MTU)
		}
		if notes := strings.Join(p.Notes, "\n"); c.note == "" && strings.Contains(notes, "mtu") || !strings.Contains(notes, c.note) {
			t.Errorf("%+v: notes %q", c.network, notes)
		}
	}
}

func isAddBridge(s step.Step) bool {
	_, ok := s.(step.AddBridge)
	return ok
}

// A keeper refuses in a request what a profile cannot say.
func TestRefusedMTU(t *testing.T) {
	for _, n := range []Network{
		{Mode: profiles.Private, MTU: 575},
		{Mode: profiles.NAT, MTU: 65522},
		{Mode: profiles.HostOnly, MTU: -1},
		{Mode: profiles.Bridge, Uplink: "eth1", MTU: 9000},
		{Mode: profiles.Bridge, Macvtap: true, MTU: 1500},
	} {
		n.Name = "dev"
		if _, err := New(n, hosttest.Laptop(), Options{Salt: hosttest.Salt}); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "mtu") {
			t.Errorf("%+v: got %v", n, err)
		}
	}
}

// The kernel takes IPv6 and its sysctls off a link whose MTU is too small for IPv6.
func TestNoIPv6SysctlsBelowItsMTU(t *testing.T) {
	for mtu, want := range map[int]bool{1279: false, 1280: true} {
		p, err := New(Network{Name: "dev", Mode: profiles.NAT, MTU: mtu}, hosttest.Laptop(), Options{Salt: hosttest.Salt})
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range []string{steptest.Script(p.Steps), steptest.Script(p.PortSteps(NIC{VM: "web"}))} {
			if strings.Contains(script, "disable_ipv6") != want {
				t.Errorf("MTU %d: want disable_ipv6 %t in\n%s", mtu, want, script)
			}
		}
	}
}

// Where no sysctl can be set, a network that needs one is refused before anything changes.
func TestPlanWithoutSysctls(t *testing.T) {
	macvtap := Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth1", Macvtap: true}
	for _, n := range []Network{{Name: "dev", Mode: profiles.Private}, {Name: "dev", Mode: profiles.HostOnly}, {Name: "dev", Mode: profiles.NAT}, macvtap} {
		f := hosttest.Laptop()
		f.NoSysctls = "/proc/sys is read-only"
		if _, err := New(n, f, Options{Salt: hosttest.Salt}); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "/proc/sys is read-only, so its links cannot be set up") {
			t.Errorf("%s: got %v", n.Mode, err)
		}
		// Without IPv6, a port alone sets none.
		f.HasIPv6 = false
		if _, err := New(n, f, Options{Salt: hosttest.Salt}); (err == nil) != n.Macvtap {
			t.Errorf("%s without IPv6: got %v", n.Mode, err)
		}
	}
}

// guarded is a NIC with the addresses that a run would give it.
func guarded(p Plan) NIC {
	n := NIC{VM: "web", Index: 0, MAC: hosttest.GuestMAC}
	if p.Prefix.IsValid() {
		n.Addresses = []netip.Addr{p.Gateway.Next()}
	}
	if p.Prefix6.IsValid() {
		n.Addresses6 = []netip.Addr{ula.Guest(p.Prefix6, n.Addresses[0]), ula.EUI64(p.Prefix6, n.MAC)}
	}
	return n
}
