package step_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
)

var (
	mac      = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	settings = resolved.Settings{Servers: []resolved.Server{{Address: netip.MustParseAddr("192.0.2.53")}}}
	accept   = filters.AcceptRule{
		Engine: filters.IPTablesNFT, Family: nft.IP, Table: "filter", Chain: "FORWARD",
		Spec: `-i qn-dev -m comment --comment "qnet:dev" -j ACCEPT`,
	}
	gateway    = host.Neighbor{Addr: netip.MustParseAddr("192.0.2.1"), MAC: mac}
	forwarding = nft.Forwarding{Table: "qnet_dev", Comment: "qnet:dev", Bridge: "qn-dev"}
	shared     = step.ConfigFile{Program: managers.Networkd, Path: "/run/x", Text: managers.Mark + "text\n"}
)

// base is a host with the links that the steps need.
func base() map[string]string {
	return map[string]string{
		"link eth0": "", "link qn-dev": "qnet:dev", "dns eth0": strings.Join(settings.Commands("eth0"), "\n"),
		"/net/ipv4/conf/eth0/forwarding": "0", "/net/ipv4/ip_forward": "0",
	}
}

// effects says of each step what Do changes of base, one "+" or "-" a line as steptest.Diff,
// and what is left after Undo: "" where Undo takes all of it back.
var effects = []struct {
	step      step.Step
	did, left string
	held      bool // Holds is true before Do, too
	waits     string
	undo      string // the words of UndoString
}{
	{step: step.AddAccept{Rule: accept}, did: `+ accept iptables-nft ip filter -A FORWARD -i qn-dev -m comment --comment "qnet:dev" -j ACCEPT = "qnet:dev"`, undo: "iptables-nft -w 10 -t filter -D FORWARD -i qn-dev"},
	{step: step.AddAddr{Link: "qn-dev", Prefix: netip.MustParsePrefix("10.1.2.1/24")}, did: `+ addr 10.1.2.1/24@qn-dev = "yes"`, left: `+ addr 10.1.2.1/24@qn-dev = "yes"`},
	{step: step.AddBridge{Name: "qn-lab", MAC: mac, MTU: 1500, Alias: "qnet:lab"}, did: `+ link qn-lab = "qnet:lab"`, undo: "ip link del qn-lab"},
	{step: forward.AddForwards{Forwarding: forwarding, Forwards: []nft.Destination{{Proto: "tcp", Port: 8080, Guest: netip.MustParseAddrPort("10.1.2.9:80")}}}, did: `+ forward qnet_dev * tcp 8080 = "10.1.2.9:80"`, undo: "nft delete element inet qnet_dev forward_any4 '{ tcp . 8080 : 10.1.2.9 . 80 }'"},
	{step: step.AddMacvtap{Name: "qndb0", Uplink: "eth0", MAC: mac, Alias: "qnet:lan/db/0"}, did: `+ link qndb0 = "qnet:lan/db/0"`, undo: "ip link del qndb0"},
	{step: step.AddTable{Table: nft.Table{Family: nft.INet, Name: "qnet_dev", Comment: "qnet:dev"}}, did: `+ table qnet_devinet = "qnet:dev"`, undo: "nft delete table inet qnet_dev"},
	{step: step.AddTap{Name: "qnweb0", Alias: "qnet:dev/web/0", MTU: 9000}, did: `+ link qnweb0 = "qnet:dev/web/0"`, undo: "ip link del qnweb0"},
	{step: step.AwaitAnswers{Link: "qn-dev", Want: []host.Neighbor{gateway}}, held: true, waits: "the answer of 192.0.2.1 (02:00:00:00:00:01) on qn-dev"},
	{step: step.ConfigFile{Program: managers.Networkd, Path: "/run/y", Text: managers.Mark + "eth0\n", NIC: true}, did: `+ file /run/y = "# qnet: eth0\n"`, undo: "rm /run/y\nnetworkctl reload"},
	{step: step.LeaveBy{Bridge: "qn-dev", Link: "eth0", Via: netip.MustParseAddr("fe80::1"), Table: 11300, Priority: 7}, did: `+ exit qn-dev = "11300 7 fe80::1 eth0"`, undo: "ip rule del priority 8 iif qn-dev lookup 11300 protocol 113\nip rule del priority 7 iif qn-dev lookup main"},
	{step: step.LinkDNS{Link: "qn-dev", NIC: "eth0", Settings: settings}, did: `+ dns qn-dev = "resolvectl dns qn-dev 192.0.2.53"`, left: `+ dns qn-dev = "resolvectl dns qn-dev 192.0.2.53"`, held: true, waits: "systemd-resolved", undo: "resolvectl dns eth0 192.0.2.53"},
	{step: step.MoveToBridge{Link: "eth0", Bridge: "qn-dev", Alias: "qnet:dev", GenMode: "0", Held: hosttest.Settled().NIC.Held}, did: "+ host qn-dev = \"moved\"\n+ master eth0 = \"qn-dev\"", undo: "ip link set eth0 nomaster"},
	{step: step.NoLinkDNS{NIC: "eth0"}, did: `- dns eth0 = "resolvectl dns eth0 192.0.2.53"`, left: `- dns eth0 = "resolvectl dns eth0 192.0.2.53"`, held: true},
	{step: step.PinGuest{Link: "qn-dev", Guest: netip.MustParseAddr("10.1.2.9")}, did: `+ pin 10.1.2.9@qn-dev = "yes"`, undo: "ip route del 10.1.2.9/32 dev qn-dev scope link proto 113"},
	{step: step.PinRule{Prefix: netip.MustParsePrefix("10.1.2.0/24"), Priority: 3}, did: `+ rule 10.1.2.0/24 = "iii"`, undo: "ip rule del priority 3 to 10.1.2.0/24 lookup main suppress_prefixlength 31 protocol 113"},
	{step: step.Reload{Program: managers.Networkd}, held: true, waits: "systemd-networkd to read its configuration"},
	{step: step.SetPort{Link: "eth0", Bridge: "qn-dev", Restore: true}, did: `+ master eth0 = "qn-dev"`, undo: "ip link set eth0 nomaster"},
	{step: step.SetPort{Link: "qn-dev", Bridge: "eth0"}, did: `+ master qn-dev = "eth0"`, left: `+ master qn-dev = "eth0"`},
	{step: step.SetSysctl{Key: "net/ipv4/conf/eth0/forwarding", Value: "1", Old: "0", Wider: host.IPForward}, did: "+ /net/ipv4/conf/eth0/forwarding = \"1\"\n- /net/ipv4/conf/eth0/forwarding = \"0\"", undo: "sysctl -qw net/ipv4/conf/eth0/forwarding=0"},
	{step: step.SetSysctl{Key: "net/ipv4/conf/qn-dev/arp_ignore", Value: "1"}, did: `+ /net/ipv4/conf/qn-dev/arp_ignore = "1"`, left: `+ /net/ipv4/conf/qn-dev/arp_ignore = "1"`},
	{step: step.SetUp{Link: "eth0", Restore: true}, did: `+ up eth0 = "yes"`, undo: "ip link set eth0 down"},
	{step: step.SetUp{Link: "qn-dev"}, did: `+ up qn-dev = "yes"`, left: `+ up qn-dev = "yes"`},
	{step: step.SetZone{Zone: firewalld.Zone{Name: "trusted", Link: "qn-dev", Rules: []string{"a", "b"}}}, did: `+ zone qn-dev = "trusted"`, waits: "firewalld", undo: "firewall-cmd --zone=trusted --remove-interface=qn-dev\nfirewall-cmd --zone=trusted --remove-rich-rule='b'\nfirewall-cmd --zone=trusted --remove-rich-rule='a'"},
	{step: step.Unmanage{Link: "eth0"}, did: `+ unmanaged eth0 = "yes"`, waits: "NetworkManager to let go of eth0", undo: "nmcli device set eth0 managed yes"},
}

// Each step does what it says, holds afterwards, takes that back, and may be undone twice.
func TestEffects(t *testing.T) {
	for _, c := range effects {
		t.Run(step.TypeName(c.step)+" "+strings.SplitN(c.step.String(), "\n", 2)[0], func(t *testing.T) {
			m := &steptest.Memory{State: base()}
			k := m.Kernel()
			if holds, err := c.step.Holds(t.Context(), k); err != nil || holds != c.held {
				t.Errorf("before: holds %t, %v", holds, err)
			}
			if err := c.step.Do(t.Context(), k); err != nil {
				t.Fatal(err)
			}
			if diff := steptest.Diff(base(), m.State); diff != c.did {
				t.Errorf("did\n%s\nwant\n%s", diff, c.did)
			}
			if holds, err := c.step.Holds(t.Context(), k); err != nil || !holds {
				t.Errorf("after: holds %t, %v", holds, err)
			}
			for range 2 {
				if err := c.step.Undo(t.Context(), k); err != nil {
					t.Fatal(err)
				}
				if diff := steptest.Diff(base(), m.State); diff != c.left {
					t.Errorf("left\n%s\nwant\n%s", diff, c.left)
				}
			}
			if got := step.WaitsFor(c.step); got != c.waits {
				t.Errorf("waits for %q, want %q", got, c.waits)
			}
			if got := c.step.UndoString(); !strings.Contains(got, c.undo) || c.undo == "" && got != "" {
				t.Errorf("undo:\n%s\nwant\n%s", got, c.undo)
			}
		})
	}
}

// A step whose call fails says so.
func TestErrorsAreTold(t *testing.T) {
	for _, c := range effects {
		m := &steptest.Memory{State: base(), Fail: 1}
		if err := c.step.Do(t.Context(), m.Kernel()); m.Calls > 0 && !errors.Is(err, steptest.ErrInjected) {
			t.Errorf("%s: do: %v", c.step, err)
		}
		m = &steptest.Memory{State: base()}
		if err := c.step.Do(t.Context(), m.Kernel()); err != nil {
			t.Fatal(err)
		}
		m.Fail, m.Calls = 1, 0
		if err := c.step.Undo(t.Context(), m.Kernel()); m.Calls > 0 && !errors.Is(err, steptest.ErrInjected) {
			t.Errorf("%s: undo: %v", c.step, err)
		}
	}
}

// A refusal says what forbids the step, and ends with what to do.
func TestRefusals(t *testing.T) {
	move := step.MoveToBridge{Link: "eth0", Bridge: "qn-dev", Alias: "qnet:dev"}
	for name, c := range map[string]struct {
		step   step.Step
		change func(m *steptest.Memory)
		is     error
		want   string
	}{
		"bridge of another": {
			step.AddBridge{Name: "qn-x", Alias: "qnet:x"},
			func(m *steptest.Memory) { m.State["link qn-x"] = "mine" }, host.ErrNotOurs,
			`add bridge "qn-x": a bridge of that name, alias "mine": it exists and does not bear qnet's mark`,
		},
		"tap of another run directory": {
			step.AddTap{Name: "qnweb0", Alias: "qnet:dev/web/0"},
			func(m *steptest.Memory) { m.State["link qnweb0"] = "qnet:dev/web/0" }, host.ErrNotOurs,
			`add tap "qnweb0": a tun of that name and mark: VMs of another run directory use it, or left it (qnet --run-dir DIR gc)`,
		},
		"macvtap of another": {
			step.AddMacvtap{Name: "qndb0", Uplink: "eth0"},
			func(m *steptest.Memory) { m.State["link qndb0"] = "mine" }, host.ErrNotOurs,
			`add macvtap "qndb0": a tun of that name, alias "mine": it exists and does not bear qnet's mark`,
		},
		"macvtap on a port": {
			step.AddMacvtap{Name: "qndb0", Uplink: "eth0"},
			func(m *steptest.Memory) { m.State["master eth0"] = "br0" }, host.ErrRefused,
			`add macvtap "qndb0": eth0 is a port of a bridge (EBUSY): release it with: ip link set eth0 nomaster; or leave macvtap out`,
		},
		"port of another": {
			step.SetPort{Link: "eth0", Bridge: "qn-dev"},
			func(m *steptest.Memory) { m.State["master eth0"] = "br0" }, host.ErrRefused,
			`set "eth0" master qn-dev: it already is a port: release it with: ip link set eth0 nomaster`,
		},
		"move without NIC": {
			move, func(m *steptest.Memory) { delete(m.State, "link eth0") }, host.ErrRefused,
			`move "eth0" to bridge "qn-dev": there is no such link: plug the NIC in, or name another uplink`,
		},
		"move without bridge": {
			move, func(m *steptest.Memory) { delete(m.State, "link qn-dev") }, host.ErrRefused,
			`move "eth0" to bridge "qn-dev": there is no bridge "qn-dev" of qnet's: another program deleted it: run the VM again`,
		},
		"move of a port": {
			move, func(m *steptest.Memory) { m.State["master eth0"] = "br0" }, host.ErrRefused,
			`move "eth0" to bridge "qn-dev": it already is a port of another link: release it with: ip link set eth0 nomaster`,
		},
		"silent gateway": {
			step.AwaitAnswers{Link: "qn-dev", Want: []host.Neighbor{gateway}},
			func(m *steptest.Memory) { m.Ask = func([]host.Neighbor) []host.Neighbor { return nil } }, host.ErrRefused,
			`await answers on "qn-dev": 192.0.2.1 (02:00:00:00:00:01) answered before the move, and after it not within 4s (asked by ARP and neighbour solicitation; heard: nobody), ` +
				`so the host is back on its NIC. Does the switch or another program on the host forbid it? Use mode = "nat"`,
		},
		"another gateway": {
			step.AwaitAnswers{Link: "qn-dev", Want: []host.Neighbor{gateway}},
			func(m *steptest.Memory) {
				m.Ask = func([]host.Neighbor) []host.Neighbor {
					return []host.Neighbor{{Addr: gateway.Addr, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}}}
				}
			}, host.ErrRefused, "heard: 192.0.2.1 (02:00:00:00:00:09)",
		},
		"file of another": {
			shared, func(m *steptest.Memory) { m.State["file /run/x"] = "[Match]\n" }, host.ErrNotOurs, "write /run/x: it exists and does not bear qnet's mark",
		},
	} {
		m := &steptest.Memory{State: base()}
		c.change(m)
		before := maps.Clone(m.State)
		err := c.step.Do(t.Context(), m.Kernel())
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, c.want)
		}
		if diff := steptest.Diff(before, m.State); diff != "" {
			t.Errorf("%s: changed\n%s", name, diff)
		}
	}
}

func TestAllAndFind(t *testing.T) {
	up, tap := step.SetUp{Link: "eth0"}, step.AddTap{Name: "qnweb0"}
	list := []step.Step{up, tap, step.SetUp{Link: "eth1"}}
	if got := step.All[step.SetUp](list); !slices.Equal(got, []step.SetUp{up, {Link: "eth1"}}) {
		t.Errorf("got %v", got)
	}
	if got, ok := step.Find[step.SetUp](list); !ok || got != up {
		t.Errorf("got %v, %t", got, ok)
	}
	if _, ok := step.Find[step.AddTable](list); ok {
		t.Error("found a table")
	}
}

// What the small interfaces say of each step.
func TestKinds(t *testing.T) {
	for _, c := range effects {
		name := step.TypeName(c.step)
		var kinds []string
		for kind, is := range map[string]bool{
			"link": implements[step.LinkMaker](c.step), "port": implements[step.PortMaker](c.step), "optional": implements[step.Optional](c.step),
			"accept": step.IsAccept(c.step), "concurrent": implements[step.Concurrent](c.step), "drifter": implements[step.Drifter](c.step),
			"adopter": implements[step.Adopter](c.step), "bound": implements[step.BridgeBound](c.step),
		} {
			if is {
				kinds = append(kinds, kind)
			}
		}
		slices.Sort(kinds)
		want := map[string]string{
			"AddAccept": "[accept optional]", "AddBridge": "[drifter link]", "AddMacvtap": "[link port]", "AddTap": "[link port]",
			"AddTable": "[adopter bound concurrent drifter]", "AddForwards": "[concurrent]", "LinkDNS": "[bound]", "SetSysctl": "[drifter]", "SetZone": "[optional]",
		}[name]
		if want == "" {
			want = "[]"
		}
		if got := fmt.Sprint(kinds); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if port, ok := step.PortOf(step.AddMacvtap{Name: "qndb0"}); !ok || port != "qndb0" {
		t.Errorf("port %q, %t", port, ok)
	}
	if port, ok := step.PortOf(step.SetUp{}); ok {
		t.Errorf("SetUp is port %q", port)
	}
}

func implements[I any](s step.Step) bool {
	_, ok := s.(I)
	return ok
}
