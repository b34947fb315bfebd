package plan

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/defined"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

var salted = Options{Salt: hosttest.Salt}

func mustPlan(t *testing.T, n Network, f host.Facts) Plan {
	t.Helper()
	p, err := New(n, f, salted)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// types are the types of a plan's steps, in order.
func types(steps []step.Step) []string {
	var list []string
	for _, s := range steps {
		list = append(list, step.TypeName(s))
	}
	return list
}

// A move that cannot be verified, or that may cut the user's session, is refused, unless the
// user says --assume-yes.
func TestMoveIsCheckable(t *testing.T) {
	gateway := host.Neighbor{Addr: netip.MustParseAddr("192.0.2.1"), MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
	for name, c := range map[string]struct {
		change func(n *host.NIC)
		want   string // "" where it is allowed
	}{
		"not asked":        {func(n *host.NIC) { n.Asked = false }, ""},
		"gateway answers":  {func(n *host.NIC) { n.Answers = []host.Neighbor{gateway} }, ""},
		"gateway silent":   {func(*host.NIC) {}, `uplink "eth0": the gateway 192.0.2.1 does not answer now, so it could not show that the host still is on its LAN after the move: plug the cable, or use --assume-yes to go on without that check`},
		"another answers":  {func(n *host.NIC) { n.Answers = []host.Neighbor{{Addr: netip.MustParseAddr("192.0.2.7")}} }, "the gateway 192.0.2.1 does not answer now"},
		"no default route": {func(n *host.NIC) { n.Held.Routes, n.Held.First = nil, nil }, "no default route leads by it, so no gateway can show that the host still is on its LAN after the move: use --assume-yes to go on without that check"},
		"session":          {func(n *host.NIC) { n.Answers, n.Peer = []host.Neighbor{gateway}, netip.MustParseAddr("192.0.2.9") }, "your own session from 192.0.2.9 comes in by this NIC"},
	} {
		f := hosttest.Settled()
		f.NIC.Asked = true
		c.change(&f.NIC)
		n := Network{Name: "lan", Mode: profiles.Bridge}
		_, err := New(n, f, salted)
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		assume := salted
		assume.AssumeYes = true
		if p, err := New(n, f, assume); err != nil || !p.MovesHost() {
			t.Errorf("%s, --assume-yes: %v", name, err)
		}
	}
}

// The program that configures the NIC lets go of it before the NIC becomes a port.
// systemd-networkd reads that only afterwards.
func TestManagersLetGo(t *testing.T) {
	for program, want := range map[managers.Program][]string{
		managers.NetworkManager: {"AddBridge", "SetSysctl", "SetUp", "LinkDNS", "Unmanage", "MoveToBridge", "SetSysctl", "AwaitAnswers", "NoLinkDNS"},
		managers.Networkd:       {"AddBridge", "SetSysctl", "SetUp", "LinkDNS", "ConfigFile", "MoveToBridge", "SetSysctl", "AwaitAnswers", "NoLinkDNS", "Reload"},
		managers.Dhcpcd:         {"AddBridge", "SetSysctl", "SetUp", "LinkDNS", "MoveToBridge", "SetSysctl", "AwaitAnswers", "NoLinkDNS"},
	} {
		f := hosttest.Settled()
		f.NIC.Client = managers.Client{Program: program, Link: "eth0"}
		p := mustPlan(t, Network{Name: "lan", Mode: profiles.Bridge}, f)
		if got := types(p.Steps); !slices.Equal(got, want) || p.Client.Program != program {
			t.Errorf("%s: got %v, want %v", program, got, want)
		}
		if move, _ := step.Find[step.MoveToBridge](p.Steps); move.Dhcpcd != (program == managers.Dhcpcd) {
			t.Errorf("%s: Dhcpcd %t", program, move.Dhcpcd)
		}
	}
}

// The bridge has the NIC's sysctls, but for those that the move or a nat network sets.
func TestMoveCopiesSysctls(t *testing.T) {
	f := hosttest.Settled()
	f.NIC.Sysctls = []host.LinkSysctl{
		{Dir: "net/ipv4/conf", Name: "arp_notify", Value: "1"},
		{Dir: "net/ipv4/conf", Name: "rp_filter", Value: "1"},
		{Dir: "net/ipv4/conf", Name: "forwarding", Value: "1"}, // while the host's own value is 0
	}
	f.NIC.GenMode = ""
	p := mustPlan(t, Network{Name: "lan", Mode: profiles.Bridge}, f)
	want := []step.SetSysctl{{Key: "net/ipv4/conf/qn-lan/arp_notify", Value: "1"}}
	if got := step.All[step.SetSysctl](p.Steps); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	f.Sysctls[host.ForwardingKey("eth0")] = "1" // the host forwards by itself
	p = mustPlan(t, Network{Name: "lan", Mode: profiles.Bridge}, f)
	want = append(want, step.SetSysctl{Key: "net/ipv4/conf/qn-lan/forwarding", Value: "1"})
	if got := step.All[step.SetSysctl](p.Steps); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A refusal says what forbids the network, and ends with what to do.
func TestRefusalsSayWhatToDo(t *testing.T) {
	pinned := hosttest.Laptop()
	pinned.Links[4].Alias = "qnet:lan" // eth1
	lost := hosttest.Laptop()
	lost.Routes, lost.Ways, lost.Outward = lost.Routes[1:], nil, nil
	empty := hosttest.Laptop()
	empty.Links = append(empty.Links, host.Link{Index: 20, Name: "qn-lan", Kind: "bridge", Ethernet: true, Alias: "qnet:lan"},
		host.Link{Index: 21, Name: "eth8", Kind: "device", Ethernet: true, Master: 20})
	full := hosttest.Laptop()
	for _, p := range []string{"10.0.0.0/9", "10.128.0.0/9", "172.16.0.0/12", "192.168.0.0/16"} {
		full.Routes = append(full.Routes, host.Route{Dst: netip.MustParsePrefix(p), Link: "tun0", Table: 254})
	}
	for _, c := range []struct {
		n    Network
		f    host.Facts
		want string
	}{
		{Network{Mode: profiles.Bridge}, lost, `plan network "a": the host has no default route to take the NIC from: name one with [network.a] uplink`},
		{Network{Mode: profiles.Bridge, Uplink: "eth9"}, lost, `plan network "a": uplink "eth9": there is no such link: name one of eth0, wlan0, docker0, eth1, br0, eth2, tun0, eth3, 3 more; or leave uplink out`},
		{Network{Mode: profiles.NAT, Uplink: "eth9"}, lost, `plan network "a": uplink "eth9": there is no such link: name one of eth0, wlan0, docker0, eth1, br0, eth2, tun0, eth3, 3 more; or leave uplink out`},
		{Network{Mode: profiles.NAT, Uplink: "lo"}, lost, `plan network "a": uplink "lo" leads nowhere outside: name a link that does, or leave uplink out`},
		{Network{Mode: profiles.Bridge, Uplink: "eth1"}, pinned, `plan network "a": uplink "eth1" is qnet's own link: name the host's NIC`},
		{Network{Mode: profiles.Bridge, Uplink: "eth3"}, lost, `uplink "eth3" has mv0 of kind macvlan on top, so the kernel refuses it as a port: delete that link, or name another NIC`},
		{Network{Mode: profiles.Bridge, Macvtap: true, Uplink: "eth8"}, empty, `uplink "eth8" is a port of network "lan" (no VM yet), which is in mode bridge`},
		{Network{Mode: profiles.User}, lost, `plan network "a": mode "user" makes no network: use private, host-only, nat or bridge`},
		{Network{Mode: profiles.Bridge, MTU: 9000}, lost, `plan network "a": mtu 9000: mode bridge has the MTU of the NIC it joins: leave mtu out, or set the NIC's`},
		{Network{Mode: profiles.NAT}, full, `plan network "a": every /24 of 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 is in use, by the host's route 10.0.0.0/9 dev tun0, route 10.128.0.0/9 dev tun0, route 172.16.0.0/12 dev tun0, route 192.168.0.0/16 dev tun0: free one, pin a smaller subnet between them with [network.a] subnet, or use mode = "user"`},
	} {
		c.n.Name = "a"
		if _, err := New(c.n, c.f, salted); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

// Notes say what the user should know.
func TestNotes(t *testing.T) {
	zoned := hosttest.Laptop()
	zoned.Firewalld = firewalld.State{Running: true, Default: "public", Zones: map[string]string{"qn-dev": "work"}}
	unread := hosttest.Laptop()
	unread.Filters = filters.Ruleset{Unread: []string{"iptables: permission denied"}}
	unread.Unknown = []string{"read firewalld: timeout"}
	libvirt := hosttest.Laptop()
	libvirt.Defined = []defined.Network{{Prefix: netip.MustParsePrefix("192.168.223.0/24"), By: `the network "default" of libvirt`}}
	connman := hosttest.Laptop()
	connman.Managers = []managers.Program{managers.ConnMan}
	private := Network{Name: "dev", Mode: profiles.Private}
	for _, c := range []struct {
		n    Network
		f    host.Facts
		want string
	}{
		{private, zoned, `your settings of firewalld put bridge qn-dev into zone "work": guests reach what that zone lets them reach`},
		{private, unread, "network dev: whether other programs drop its packets is not known: iptables: permission denied"},
		{private, unread, "read firewalld: timeout"},
		{Network{Name: "dev", Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("192.168.223.0/24")}, libvirt, `subnet 192.168.223.0/24 of network dev is also that of the network "default" of libvirt: only one of them can run; choose another subnet for one`},
		{private, connman, managers.Advice(managers.ConnMan)},
		{Network{Name: "lan", Mode: profiles.Bridge, Uplink: "br0"}, hosttest.Laptop(), "bridge br0 runs STP: a VM starts when its port forwards, often 30 s after it joined"},
		{Network{Name: "lan", Mode: profiles.Bridge, Macvtap: true}, hosttest.Laptop(), "network lan is by macvtap on eth0: this host and its VMs do not reach each other (VMs and the rest of the LAN do); leave macvtap out if they must"},
	} {
		if p := mustPlan(t, c.n, c.f); !slices.Contains(p.Notes, c.want) {
			t.Errorf("got  %q\nwant %q", p.Notes, c.want)
		}
	}
}

// A plan by macvtap asks nothing of the host's filters, and needs no look at the NIC.
func TestMacvtapIgnoresFilters(t *testing.T) {
	f := hosttest.Laptop()
	f.Filters = dockerAndUFW()
	p := mustPlan(t, Network{Name: "lan", Mode: profiles.Bridge, Macvtap: true, Uplink: "eth1"}, f)
	if a := p.Answers(f.Filters, false); a != nil || !slices.Equal(types(p.Steps), []string{"SetUp"}) { // eth1 is down
		t.Errorf("answers %v, steps %v", a, types(p.Steps))
	}
	if q := p.Network.Query(); q.LAN || q.Uplink != "eth1" {
		t.Errorf("asks for %+v", q)
	}
	if q := (Network{Mode: profiles.Bridge}).Query(); !q.LAN {
		t.Errorf("asks for %+v", q)
	}
}
