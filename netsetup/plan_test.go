package netsetup

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/profiles"
)

var update = flag.Bool("update", false, "write the golden files")

var testSalt = []byte("a salt of the tests")

func prefixes(list ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// laptop is a host with a NIC, Wi-Fi, Docker's bridge, a free NIC and an
// administrator's bridge.
func laptop() Facts {
	nic := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	f := Facts{
		Links: []Link{
			{Index: 1, Name: "lo", Kind: "device", Loopback: true, Up: true, MTU: 65536, Addresses: prefixes("127.0.0.1/8")},
			{Index: 2, Name: "eth0", Kind: "device", Ethernet: true, Up: true, MTU: 1500, MAC: nic, Addresses: prefixes("192.0.2.10/24", "fe80::1/64")},
			{Index: 3, Name: "wlan0", Kind: "device", Ethernet: true, Wireless: true, Up: true, MTU: 1500},
			{Index: 4, Name: "docker0", Kind: "bridge", Ethernet: true, Up: true, MTU: 1500, Addresses: prefixes("172.17.0.1/16")},
			{Index: 5, Name: "eth1", Kind: "device", Ethernet: true, MTU: 9000, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}, Addresses: prefixes("fe80::5/64")},
			{Index: 6, Name: "br0", Kind: "bridge", Ethernet: true, Up: true, MTU: 1500, STP: true},
			{Index: 7, Name: "eth2", Kind: "device", Ethernet: true, Up: true, MTU: 1500, Master: 6},
			{Index: 8, Name: "tun0", Kind: "tun", Up: true, MTU: 1420, Addresses: prefixes("10.200.0.2/32")},
			{Index: 9, Name: "eth3", Kind: "device", Ethernet: true, Up: true, MTU: 1500},
			{Index: 10, Name: "mv0", Kind: "macvlan", Ethernet: true, Up: true, MTU: 1500, Parent: 9},
			{Index: 11, Name: "eth5", Kind: "device", Ethernet: true, Up: true, MTU: 1500},
			{Index: 12, Name: "ipv0", Kind: "ipvlan", Ethernet: true, Up: true, MTU: 1500, Parent: 11},
		},
		Routes: []Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "eth0", Table: 254},
			{Dst: netip.MustParsePrefix("192.0.2.0/24"), Link: "eth0", Table: 254},
			{Dst: netip.MustParsePrefix("172.17.0.0/16"), Link: "docker0", Table: 254},
			{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: "tun0", Table: 254},
			{Dst: netip.MustParsePrefix("192.168.64.0/18"), Link: "tun0", Table: 51820},
		},
		Resolvers: []netip.Addr{netip.MustParseAddr("192.168.200.53")},
		Sysctls:   map[string]string{},
		HasIPv6:   true,
	}
	for _, l := range f.Links {
		f.Sysctls[forwardingKey(l.Name)] = "0"
	}
	f.Sysctls[forwardingKey("tun0")] = "1"
	return f
}

// rawAddr is an address of the laptop's eth0 as the kernel lists it.
func rawAddr(prefix, label string, flags uint32, l lifetimes) Raw {
	p := netip.MustParsePrefix(prefix)
	family := byte(unix.AF_INET)
	if p.Addr().Is6() {
		family = unix.AF_INET6
	}
	r := Raw{family, byte(p.Bits()), 0, 0, 2, 0, 0, 0}
	r = appendAttr(r, attr{unix.IFA_ADDRESS, p.Addr().AsSlice()})
	if label != "" {
		r = appendAttr(r, attr{unix.IFA_LOCAL, p.Addr().AsSlice()})
		r = appendAttr(r, attr{unix.IFA_LABEL, append([]byte(label), 0)})
	}
	r = appendAttr(r, attr{unix.IFA_FLAGS, u32(flags)})
	return appendAttr(r, attr{unix.IFA_CACHEINFO, slices.Concat(u32(l.preferred), u32(l.valid), make([]byte, 8))})
}

// rawDefault is a default route by the laptop's eth0.
func rawDefault(gateway string, protocol byte, metric uint32) Raw {
	gw := netip.MustParseAddr(gateway)
	family := byte(unix.AF_INET)
	if gw.Is6() {
		family = unix.AF_INET6
	}
	r := Raw{family, 0, 0, 0, unix.RT_TABLE_MAIN, protocol, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	r = appendAttr(r, attr{unix.RTA_GATEWAY, gw.AsSlice()})
	r = appendAttr(r, attr{unix.RTA_OIF, u32(2)})
	if metric != 0 {
		r = appendAttr(r, attr{unix.RTA_PRIORITY, u32(metric)})
	}
	return r
}

// settled is the laptop whose eth0 has static addresses of both families.
func settled() Facts {
	f := laptop()
	f.NIC = NIC{
		Held: Holdings{
			Index: 2,
			Addrs: []Raw{
				rawAddr("192.0.2.10/24", "eth0", unix.IFA_F_PERMANENT, lifetimes{forever, forever}),
				rawAddr("192.0.2.11/24", "eth0:1", unix.IFA_F_PERMANENT|unix.IFA_F_SECONDARY, lifetimes{forever, forever}),
				rawAddr("2001:db8::10/64", "", unix.IFA_F_PERMANENT, lifetimes{forever, forever}),
			},
			Routes: []Raw{rawDefault("192.0.2.1", unix.RTPROT_BOOT, 0), rawDefault("2001:db8::1", unix.RTPROT_BOOT, 1024)},
			First:  []bool{false, false},
		},
		Conf:     []Conf{{"net/ipv4/conf", "arp_notify", "1"}},
		RPFilter: "0", GenMode: "0",
		DNS: resolved.Settings{
			Servers: []resolved.Server{{Address: netip.MustParseAddr("192.0.2.53")}},
			Domains: []resolved.Domain{{Name: "lan.example"}},
		},
	}
	return f
}

// goldenNetworks are what goldenPlan plans, by a golden file's name.
var goldenNetworks = map[string]Network{
	"private":   {Mode: profiles.Private},
	"host-only": {Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("192.168.223.0/24")},
	"nat":       {Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24")},
	"bridge":    {Mode: profiles.Bridge, Uplink: "eth1"},
	"move":      {Mode: profiles.Bridge},
	"macvtap":   {Mode: profiles.Bridge, Uplink: "eth0", Macvtap: true},
}

var guestMAC = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}

func goldenFacts(name string) Facts {
	if name == "move" {
		return settled()
	}
	return laptop()
}

// goldenPlan is the plan of one of goldenNetworks, as commands.
func goldenPlan(t *testing.T, name string) string {
	t.Helper()
	n := goldenNetworks[name]
	n.Name = name
	p, err := NewPlan(n, goldenFacts(name), PlanOptions{Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	port := p.PortSteps(Port{VM: "web", NIC: 0, MAC: guestMAC})
	if len(p.Steps) == 0 {
		return "# for each NIC\n" + Script(port) + "\n\n# afterwards\n" + UndoScript(port) + "\n"
	}
	return "# set up\n" + Script(p.Steps) + "\n\n# for each NIC\n" + Script(port) +
		"\n\n# afterwards\n" + UndoScript(port) + "\n" + UndoScript(p.Steps) + "\n"
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
		"subnet-of-an-address":      {Network{Name: "a", Mode: profiles.NAT, Subnet: pin("192.0.2.0/25")}, "192.0.2.10/24 of eth0"},
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
			_, err := NewPlan(c.network, laptop(), PlanOptions{Salt: testSalt})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}

// A NIC that carries the host, but in a way a bridge cannot take over, is refused
// before anything is touched.
func TestMoveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *Facts)
		want   string
	}{
		"down":           {func(f *Facts) { f.Links[1].Up = false }, "is down"},
		"xdp":            {func(f *Facts) { f.NIC.Programs = []string{"an XDP program"} }, "an XDP program attached"},
		"stable-privacy": {func(f *Facts) { f.NIC.GenMode = genModeStable }, "stable-privacy"},
		"nexthop-object": {func(f *Facts) {
			f.NIC.Held.Routes[0] = appendAttr(f.NIC.Held.Routes[0], attr{rtaNHID, u32(7)})
		}, "nexthop object"},
		"bond": {func(f *Facts) { f.Links[1].Master, f.Links[5].Kind = 6, "bond" }, `is a link of the bond br0: use uplink = "br0"`},
		"vrf":  {func(f *Facts) { f.Links[1].Master, f.Links[5].Kind = 6, "vrf" }, "is in the VRF br0"},
		"connman": {func(f *Facts) {
			f.NIC.Client = managers.Client{Program: managers.ConnMan, Link: "eth0", Refusal: "is configured by ConnMan"}
		}, `uplink "eth0" is configured by ConnMan`},
	} {
		t.Run(name, func(t *testing.T) {
			f := settled()
			c.change(&f)
			_, err := NewPlan(Network{Name: "a", Mode: profiles.Bridge, Uplink: "eth0"}, f, PlanOptions{Salt: testSalt})
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want a refusal with %q", err, c.want)
			}
		})
	}
}

// Whose rules name the NIC is told, because they match nothing by the bridge.
func TestMoveTellsOfRulesThatNameTheNIC(t *testing.T) {
	f := settled()
	f.Filters.Tables = []filters.Table{{Engine: filters.NFTables, Family: nft.INet, Name: "mine", Chains: []filters.Chain{
		{Name: "in", Rules: []filters.Rule{
			{Text: `iifname "eth0" tcp dport 22 accept`}, {Text: `iifname "eth01" drop`}, {Text: `iifname { "eth0", "eth1" } drop`},
		}},
	}}}
	p, err := NewPlan(Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}, f, PlanOptions{Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(p.Notes, "\n")
	if !strings.Contains(all, `mine in: iifname \"eth0\" tcp dport 22 accept`) || !strings.Contains(all, "and 1 more") {
		t.Errorf("got %s", all)
	}
}

func TestBridgeOfTheAdministratorIsJoined(t *testing.T) {
	p, err := NewPlan(Network{Name: "lan", Mode: profiles.Bridge, Uplink: "br0"}, laptop(), PlanOptions{Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	if p.Bridge != "br0" || len(p.Steps) != 0 || !p.Waits || len(p.Notes) != 1 {
		t.Errorf("got bridge %s, %d steps, waits %v, notes %q; want br0, none, true, one", p.Bridge, len(p.Steps), p.Waits, p.Notes)
	}
}

func TestSubnetIsChosenFreeAndAgain(t *testing.T) {
	f, o := laptop(), PlanOptions{Salt: testSalt}
	first, err := chooseSubnet("dev", "qn-dev", f, o)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := chooseSubnet("dev", "qn-dev", f, o); again != first {
		t.Errorf("got %s then %s", first, again)
	}
	if other, _ := chooseSubnet("lab", "qn-lab", f, o); other == first {
		t.Errorf("two networks got %s", first)
	}
	// Taken by somebody: a larger, an equal and a smaller prefix, in any table.
	for _, taken := range []netip.Prefix{netip.PrefixFrom(first.Addr(), 16).Masked(), first, netip.PrefixFrom(first.Addr(), 30)} {
		g := laptop()
		g.Routes = append(g.Routes, Route{Dst: taken, Link: "tun0", Table: 7})
		second, err := chooseSubnet("dev", "qn-dev", g, o)
		if err != nil || second.Overlaps(taken) {
			t.Errorf("route %s: got %s, %v", taken, second, err)
		}
		// What was chosen then stays, when the first is free again.
		if kept, _ := chooseSubnet("dev", "qn-dev", f, PlanOptions{Salt: testSalt, Remembered: second}); kept != second {
			t.Errorf("got %s, want the remembered %s", kept, second)
		}
	}
	// Selected by a policy rule, whose table may get its routes later; and of a
	// network that is defined and down.
	g := laptop()
	g.Rules = append(g.Rules, FIBRule{Priority: 100, To: first, Table: 7})
	if second, err := chooseSubnet("dev", "qn-dev", g, o); err != nil || second == first {
		t.Errorf("rule to %s: got %s, %v", first, second, err)
	}
	g = laptop()
	g.Defined = []Defined{{first, `the network "default" of libvirt`}}
	if second, err := chooseSubnet("dev", "qn-dev", g, o); err != nil || second == first {
		t.Errorf("defined %s: got %s, %v", first, second, err)
	}
	// Who asks for just that is told.
	p, err := NewPlan(Network{Name: "dev", Mode: profiles.HostOnly, Subnet: first}, g, o)
	if err != nil || !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, `"default" of libvirt`) }) {
		t.Errorf("got %q, %v", p.Notes, err)
	}
	// The network's own bridge, left by a crash, is no conflict.
	g = laptop()
	g.Routes = append(g.Routes, Route{Dst: first, Link: "qn-dev", Table: 254})
	if again, _ := chooseSubnet("dev", "qn-dev", g, o); again != first {
		t.Errorf("got %s, want %s", again, first)
	}
}

func TestUsable(t *testing.T) {
	p := netip.MustParsePrefix("192.168.223.0/28")
	if !Usable(p, netip.MustParseAddr("192.168.223.2")) {
		t.Error("192.168.223.2 is not usable")
	}
	for _, bad := range []string{"192.168.223.0", "192.168.223.1", "192.168.223.15", "192.168.223.16", "192.168.222.2"} {
		if Usable(p, netip.MustParseAddr(bad)) {
			t.Errorf("%s is usable", bad)
		}
	}
}

func TestNamesFitAndDiffer(t *testing.T) {
	long := strings.Repeat("a", 31)
	seen := map[string]string{}
	for _, vm := range []string{"web", "web1", "web-", "w", "abcdefghijkl", "abcdefghijklm", long, long[:30] + "b"} {
		for nic := range 16 {
			name := TapName(vm, nic)
			if len(name) > maxIfname {
				t.Errorf("%s is longer than %d bytes", name, maxIfname)
			}
			if other, ok := seen[name]; ok {
				t.Errorf("%s for %s/%d and %s", name, vm, nic, other)
			}
			seen[name] = vm
		}
	}
	if got := BridgeName("dev"); got != "qn-dev" {
		t.Errorf("got %s", got)
	}
	if a, b := BridgeName(long), BridgeName(long[:30]+"b"); a == b || len(a) > maxIfname {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestJournalRoundTrip(t *testing.T) {
	p, err := NewPlan(Network{Name: "dev", Mode: profiles.NAT}, laptop(), PlanOptions{Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJournal(p)
	if err != nil {
		t.Fatal(err)
	}
	j.Ports["web"] = p.PortSteps(Port{VM: "web", NIC: 3})
	j.Ports["db"] = StepList{AddMacvtap{Name: "qndb0", Uplink: "eth0", MAC: guestMAC, Alias: "qnet:lan/db/0"}}
	j.Added = StepList{uplinkForwarding("eth7", Facts{})}
	path := filepath.Join(t.TempDir(), "journal.json")
	if err := j.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	j.encoded = nil // what Write keeps for itself
	if !reflect.DeepEqual(got, j) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(j)
		t.Errorf("got  %s\nwant %s", a, b)
	}
}

// Guests behind uplinks that all carry jumbo frames get them, too.
func TestMTUOfNAT(t *testing.T) {
	for name, c := range map[string]struct {
		mtus []int
		want int
	}{
		"usual": {[]int{1500}, 1500}, "jumbo": {[]int{9000}, 9000}, "jumbo and usual": {[]int{9000, 1500}, 1500},
		"two jumbo": {[]int{9000, 4000}, 4000}, "with a tunnel": {[]int{9000, 1420}, 1500}, "none": {nil, 1500},
	} {
		f := laptop()
		f.Links, f.Routes = f.Links[:1:1], nil
		for i, mtu := range c.mtus {
			name := fmt.Sprintf("up%d", i)
			f.Links = append(f.Links, Link{Index: 100 + i, Name: name, Kind: "device", Ethernet: true, MTU: mtu})
			f.Routes = append(f.Routes, Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: name, Table: 254})
		}
		p, err := NewPlan(Network{Name: "dev", Mode: profiles.NAT}, f, PlanOptions{Salt: testSalt})
		if err != nil {
			t.Fatal(err)
		}
		if p.MTU != c.want {
			t.Errorf("%s: MTU %d, want %d", name, p.MTU, c.want)
		}
	}
}

// A chosen MTU is the bridge's and the taps', whatever the uplinks carry.
func TestChosenMTU(t *testing.T) {
	for _, c := range []struct {
		network Network
		note    string // "" for none
	}{
		{Network{Mode: profiles.Private, MTU: 9000}, ""},
		{Network{Mode: profiles.HostOnly, MTU: 576}, ""},
		{Network{Mode: profiles.HostOnly, MTU: 65521}, ""},
		{Network{Mode: profiles.NAT, MTU: 1280}, ""},
		{Network{Mode: profiles.NAT, MTU: 1500}, ""}, // tun0 has 1420, which is nothing to tell by default either
		{Network{Mode: profiles.NAT, MTU: 9000}, "network dev has mtu 9000 and its uplink eth0 1500: what guests send outside is cut to that"},
	} {
		c.network.Name = "dev"
		p, err := NewPlan(c.network, laptop(), PlanOptions{Salt: testSalt})
		if err != nil {
			t.Fatal(err)
		}
		want := c.network.MTU
		bridge, tap := p.Steps[slices.IndexFunc(p.Steps, isAddBridge)].(AddBridge), p.PortSteps(Port{VM: "web"})[0].(AddTap)
		if p.MTU != want || bridge.MTU != want || tap.MTU != want {
			t.Errorf("%+v: the plan has %d, the bridge %d, the tap %d", c.network, p.MTU, bridge.MTU, tap.MTU)
		}
		if notes := strings.Join(p.Notes, "\n"); c.note == "" && strings.Contains(notes, "mtu") || !strings.Contains(notes, c.note) {
			t.Errorf("%+v: notes %q", c.network, notes)
		}
	}
}

func isAddBridge(s Step) bool {
	_, ok := s.(AddBridge)
	return ok
}

// A keeper takes from no request what no profile may say.
func TestRefusedMTU(t *testing.T) {
	for _, n := range []Network{
		{Mode: profiles.Private, MTU: 575},
		{Mode: profiles.NAT, MTU: 65522},
		{Mode: profiles.HostOnly, MTU: -1},
		{Mode: profiles.Bridge, Uplink: "eth1", MTU: 9000},
		{Mode: profiles.Bridge, Macvtap: true, MTU: 1500},
	} {
		n.Name = "dev"
		if _, err := NewPlan(n, laptop(), PlanOptions{Salt: testSalt}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "mtu") {
			t.Errorf("%+v: got %v", n, err)
		}
	}
}

// The kernel takes IPv6 off a link with an MTU that is too small for it, with the
// sysctls for it.
func TestNoIPv6SysctlsBelowItsMTU(t *testing.T) {
	for mtu, want := range map[int]bool{1279: false, 1280: true} {
		p, err := NewPlan(Network{Name: "dev", Mode: profiles.NAT, MTU: mtu}, laptop(), PlanOptions{Salt: testSalt})
		if err != nil {
			t.Fatal(err)
		}
		for _, script := range []string{Script(p.Steps), Script(p.PortSteps(Port{VM: "web"}))} {
			if strings.Contains(script, "disable_ipv6") != want {
				t.Errorf("MTU %d: want disable_ipv6 %t in\n%s", mtu, want, script)
			}
		}
	}
}

// A bridge that the host's own NIC is a port of is an uplink as the NIC was; a bridge
// of VMs only is none, also with an address and a route of its own.
func TestUplinkThatIsOurBridge(t *testing.T) {
	prefix := netip.MustParsePrefix("192.0.2.10/24")
	f := Facts{
		Links: []Link{
			{Index: 2, Name: "eth0", Ethernet: true, Master: 20},
			{Index: 20, Name: "qn-lan", Kind: "bridge", Alias: "qnet:lan", Addresses: []netip.Prefix{prefix}},
			{Index: 21, Name: "qn-dev", Kind: "bridge", Alias: "qnet:dev", Addresses: []netip.Prefix{prefix}},
			{Index: 22, Name: "qnweb0", Kind: "tun", Alias: "qnet:dev/web/0", Master: 21},
		},
		Routes: []Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "qn-dev"}, {Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "qn-lan"}},
	}
	if got := f.Uplinks(); !slices.Equal(got, []string{"qn-lan"}) {
		t.Errorf("uplinks %v", got)
	}
	if l, ok := f.DefaultLink(); !ok || l.Name != "qn-lan" {
		t.Errorf("default link %q", l.Name)
	}
}
