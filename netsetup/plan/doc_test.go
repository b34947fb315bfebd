package plan

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/pinned"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/reach"
)

const hostChanges = "../../docs/host-changes.md"

// chapters introduce the plans of docs/host-changes.md.
var chapters = []struct{ plan, title, intro string }{
	{"private", "private", `A bridge without an address. The netdev table drops every frame that would go up
from the bridge to the host, ARP and IPv6 included. The inet table does the same for
frames that br_netfilter passes to the host's chains.`},
	{"host-only", "host-only", `A bridge with the host's address. The host forwards nothing for it: forwarding of
the bridge is off, and the rules drop forwarded packets even where another program
turns forwarding on.`},
	{"nat", "nat", `As host-only, and forwarded and masqueraded. Only links whose forwarding was off
get it turned on (here eth0); the set "newly_forwarded" names them, and the last rules of
through_host drop what that would newly let pass between the host's other links, bridges of
qnet's to a LAN included. Guests of other networks get their answers, and frames between the
ports of a bridge in "between_ports" pass, which br_netfilter shows. qnet does not write the
global ip_forward. Where another program turns that on meanwhile, qnet empties
the set, and the links keep forwarding. Uplinks that appear while VMs run are added the same
way.`},
	{"host-only-ipv6", "host-only with ipv6", `The bridge has an address of IPv6 as well, and hears nothing about IPv6 from guests. The
guard's set "own6" has the addresses that qnet gives the guest and that its MAC makes; the
keeper adds those that the guest asks about before it uses them, unless another guest has them.`},
	{"nat-ipv6", "nat with ipv6", `As nat, and as host-only with ipv6. force_forwarding lets the bridge and the uplinks forward; the
set "newly_forwarded6" names the uplinks whose forwarding that turned on, and the last rules of
through_host drop what that would newly let pass. For the moment in which the bridge becomes a
router's, accept_ra is 2: the kernel drops the host's default routes by advertisements then.`},
	{"nat-ipv6-all", "nat with ipv6, with a kernel before 6.17", `All links forward, and accept_ra is 2 as long. The last rules of through_host drop what comes in by any
link and is not for guests; where another program makes all links forward as well, which shows in
default/forwarding, the set "lifted6" has all links.`},
	{"pinned", "nat, by an uplink that is not the host's", `The profile names an uplink, and the host's own packets to the Internet leave by
another link. Guests get a default route of their own, in a table that nothing else uses,
and two policy rules that name their bridge: first what the main table knows but for default
routes, then that table. They bear the protocol number 113. The keeper follows the uplink's
gateway. Where rp_filter of the uplink is strict, it is loose while VMs run.`},
	{"bridge", "bridge, with a NIC to spare", `A NIC without an address becomes a port of a new bridge, which takes over the
NIC's MAC and MTU. Where uplink names an existing bridge, qnet adds only the tap.`},
	{"move", "bridge, with the NIC the host itself uses", `The host's addresses, routes of every table, neighbours and policy rules that name
the NIC move to the bridge, which has the NIC's MAC, MTU and sysctls. At the end,
what the bridge has by then moves back. Each address and route is on both links
before it leaves the one, and qnet sends each block of commands as one request.

Where systemd-resolved runs, the bridge gets the DNS settings of the NIC.

These commands cannot say two things. qnet adds a default route that the kernel
got by an IPv6 router advertisement with the flags of one and a metric smaller by
one, so that the next advertisement, which qnet asks for, replaces it by the
kernel's own. And neighbours that the kernel learned move, too.`},
	{"macvtap", "bridge with macvtap = true", `The NIC, its addresses and the program that configures it stay as they are. Each NIC of
a VM gets a macvtap link on it. (qnet sets up a NIC that is down, and down again
afterwards.)`},
}

const pinsChapter = `## When another program takes the VMs' addresses

A VPN that comes up while VMs run may bring a route for their subnet, or for a
part of it, or a policy rule that leads past the main table. In host-only and nat
qnet then adds, within moments, a host route on the bridge for each VM whose address
such a route takes. Where a policy rule would lead past these routes, qnet adds a rule
directly before it, which looks for nothing but host routes. Everything else goes where
the other program wants it. qnet names that route to the user, and deletes its own
routes and rule when it goes. They bear the protocol number 113.
`

// goldenPins are the pins of a guest, and of a policy rule of priority 100 that leads past the
// main table.
func goldenPins() string {
	steps := pinned.Pins{Guests: []netip.Addr{netip.MustParseAddr("192.168.223.10")}, Rules: []int{99}}.Steps("qn-nat", netip.MustParsePrefix("192.168.223.0/24"))
	return "# set up\n" + steptest.Script(steps) + "\n\n# afterwards\n" + apply.UndoScript(steps) + "\n"
}

const forwardsChapter = `## Ports of the host that lead to a VM

With "ports" in a NIC of mode nat, qnet adds these to the network's table, for those at an
address of IPv4 that other machines reach, and so for "*": here 8080, at every address, and UDP
53 at 192.0.2.10. Other machines' packets reach the guest with their own source address then.
The first forward of a network adds the maps, the chain and the accept, and the last one takes
them away. A forward is an element of each, added and deleted live.

Besides, the keeper opens a listening socket for each forward, in every mode, and the VM's
supervisor relays what comes to it: what comes from the host itself, from guests, over IPv6, and
where the rules are not there or do not match. qnet never sets route_localnet. The kernel forgets the
connections to the ports when a forward goes, and those of UDP when one comes
("conntrack -D --orig-port-dst PORT").
`

// goldenForwards are forwards that the rules help, and some that they do not.
var goldenForwards = []forward.Forward{
	{Proto: "tcp", Port: 8080, Guest: 80},
	{Proto: "udp", Address: netip.MustParseAddr("192.0.2.10"), Port: 53, Guest: 53},
	{Proto: "tcp", Address: netip.MustParseAddr("127.0.0.1"), Port: 2222, Guest: 22},
	{Proto: "tcp", Address: netip.IPv6Loopback(), Port: 2222, Guest: 22},
	{Proto: "tcp", Address: netip.IPv6Unspecified(), Port: 443, Guest: 443},
}

// goldenForward is the steps for goldenForwards, as commands.
func goldenForward() string {
	p := Plan{Network: Network{Name: "nat", Mode: profiles.NAT}, Bridge: "qn-nat"}
	steps := p.ForwardSteps(netip.MustParseAddr("192.168.223.10"), goldenForwards)
	return "# set up\n" + steptest.Script(steps) + "\n\n# afterwards\n" + apply.UndoScript(steps) + "\n"
}

// Only a network of mode nat has rules for forwards, and only for those that other machines reach
// over IPv4.
func TestForwardSteps(t *testing.T) {
	guest := netip.MustParseAddr("192.168.223.10")
	for _, mode := range []profiles.Mode{profiles.HostOnly, profiles.Bridge} {
		p := Plan{Network: Network{Name: "x", Mode: mode}}
		if steps := p.ForwardSteps(guest, goldenForwards); steps != nil {
			t.Errorf("%s: %v", mode, steps)
		}
	}
	p := Plan{Network: Network{Name: "x", Mode: profiles.NAT}}
	if steps := p.ForwardSteps(guest, goldenForwards[2:]); steps != nil {
		t.Errorf("loopback and IPv6: %v", steps)
	}
	everywhere := forward.Forward{Proto: "tcp", Address: netip.IPv4Unspecified(), Port: 1, Guest: 1}
	if add, _ := step.Find[forward.AddForwards](p.ForwardSteps(guest, []forward.Forward{everywhere})); len(add.Forwards) != 1 || add.Forwards[0].Address.IsValid() {
		t.Errorf("0.0.0.0: %v", add)
	}
}

const reachChapter = `## What a guest may not reach

With "isolated", "host", "lan" or "egress" in a NIC, its port has tables besides ([egress.md](egress.md)),
which go with it. Here a NIC with all of them, of a host with the LAN 192.0.2.0/24, whose list has
"deb.debian.org", "*.github.com:443", "203.0.113.0/24:22" and "!198.51.100.0/24". While VMs run, the sets lan4
and lan6 follow the host's addresses and routes, and qnet's name server has addresses put into those
that begin with "names" before it answers ("nft add element inet qnet_reach_qnweb0 names4
'{ 192.0.2.7 timeout 6m }'").
`

// goldenReach is what a NIC with each key of that chapter has besides another one.
func goldenReach() string {
	p := Plan{Network: Network{Name: "nat", Mode: profiles.NAT}, Bridge: "qn-nat", Steps: step.List{
		step.AddBridge{Name: "qn-nat", MAC: hosttest.GuestMAC}, step.AddAddr{Link: "qn-nat", Prefix: netip.MustParsePrefix("192.168.223.1/24")},
	}}
	nic := NIC{VM: "web", MAC: hosttest.GuestMAC, Addresses: []netip.Addr{netip.MustParseAddr("192.168.223.10")}}
	other := p.PortSteps(nic)
	nic.Reach, nic.OnLink = reach.Policy{Isolated: true, NoHost: true, NoLAN: true, Listed: true, Entries: []reach.Entry{
		{Name: "deb.debian.org"},
		{Name: "*.github.com", Port: 443},
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Port: 22},
		{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Deny: true},
	}}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	steps := slices.DeleteFunc(p.PortSteps(nic), func(s step.Step) bool {
		return slices.ContainsFunc(other, func(o step.Step) bool { return o.String() == s.String() })
	})
	return "# set up\n" + steptest.Script(steps) + "\n\n# afterwards\n" + apply.UndoScript(steps) + "\n"
}

const firewalldChapter = `## Beside firewalld

firewalld lets nothing pass from and to a link that is in no zone. So qnet puts its
bridge into a zone, over D-Bus, in the running firewalld only: nothing is permanent,
and qnet does the same again after a reload or restart of firewalld. In host-only
and nat the zone is "trusted", with rules for the network's guests: of the host they
reach DNS and ping at the gateway's address, and what you add to the zone: "firewall-cmd
--zone=trusted --add-port=N/tcp". In private and bridge, which need a zone only if
br_netfilter is on, it is the default zone or the uplink's. A bridge that you put
into a zone yourself stays there, and gets no rules: "firewall-cmd --permanent --zone=ZONE
--add-interface=qn-NETWORK".

firewalld keeps empty chains of a zone it once used until it reloads.
`

// goldenZone is the commands for firewalld of a nat network, and their undo.
func goldenZone(t *testing.T) string {
	t.Helper()
	f := hosttest.Laptop()
	f.Firewalld = firewalld.State{Running: true, Default: "public"}
	p, err := New(Network{Name: "nat", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("192.168.223.0/24")}, f, Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	_, accepts := apply.SplitOptional(p.Steps)
	return "# set up\n" + steptest.Script(accepts) + "\n\n# afterwards\n" + apply.UndoScript(accepts) + "\n"
}

// TestHostChangesDoc keeps the page in step with the golden plans.
func TestHostChangesDoc(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# What qnet changes on your host

Generated from the plans that the tests hold to what the kernel then lists
(TestCommandsEqualNetlink executes these very commands and compares); written by
` + "`go test ./netsetup/plan -update`" + `. ` + "`qnet plan vm.toml`" + ` shows the same for your
profile and your host, and ` + "`qnet run -v`" + ` as it happens. qnet executes none of these
programs but iptables, whose chains only iptables may write; it speaks netlink.

Two things differ from what the commands can say: qnet's taps are not
persistent, so they go away with QEMU; and where the kernel knows the nftables
flags "owner" and "persist", the tables carry them, so that another program's
` + "`nft flush ruleset`" + ` leaves them alone.

While VMs run, there are also files in /run/qnet. In host-only and nat a name server
listens on the bridge's address, and a packet socket serves DHCP. Where
systemd-resolved runs, it knows the bridge's name server and the domain ~qnet. Where
firewalld runs, the bridge is in one of its zones, see below.
For good, in /var/lib/qnet: the host's salt (from which MACs and subnets derive),
the subnets chosen, the addresses given, and each VM's last logs. qnet writes nothing
else but what the next chapter tells. It never touches a service, a file, a default
policy or a rule of another program. Where another program's rules drop what the
network needs, see the last chapters.

## Beside NetworkManager and systemd-networkd

Before the first link appears, in every mode, qnet tells each of them that runs to leave
links named qn* alone, by a file of its run-time configuration. All networks
share the file, and the last one removes it. To read it, the program reads its other
files, too: what you changed in them and have not applied yet takes effect then.
ConnMan has no such files: a run tells what to add to its main.conf. dhcpcd leaves
bridges and taps alone by itself.

In mode bridge, the program that configures the uplink lets go of it as well: networkd
by the file /run/systemd/network/0-qnet-UPLINK.network, NetworkManager by
"nmcli device set UPLINK managed no". Afterwards it gets the uplink back. See
[lan.md](lan.md).

` + "```sh\n# set up\n" + steptest.Script(LeaveAloneSteps(managers.Programs)) + "\n\n# afterwards\n" + apply.UndoScript(LeaveAloneSteps(managers.Programs)) + "\n```" + `
`)
	for _, c := range chapters {
		b.WriteString("\n## " + c.title + "\n\n" + c.intro + "\n\n```sh\n" + goldenPlan(t, c.plan) + "```\n")
	}
	b.WriteString("\n" + forwardsChapter + "\n```sh\n" + goldenForward() + "```\n")
	b.WriteString("\n" + reachChapter + "\n```sh\n" + goldenReach() + "```\n")
	b.WriteString("\n" + pinsChapter + "\n```sh\n" + goldenPins() + "```\n")
	b.WriteString(acceptsDoc(t))
	b.WriteString("\n" + firewalldChapter + "\n```sh\n" + goldenZone(t) + "```\n")
	if *update {
		if err := os.WriteFile(hostChanges, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(hostChanges)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != b.String() {
		t.Errorf("%s is not in step with the plans: go test ./netsetup/plan -update", hostChanges)
	}
}

// acceptsDoc is the section on other firewalls, with the plans' accepts on a host
// where Docker and ufw drop what they can.
func acceptsDoc(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`
## Where another firewall drops the packets

An accept in a table of qnet's own does not help against a drop in another program's: the
kernel asks every table. So qnet reads the other tables, at the start and whenever they
change, and follows through them the packets that the network's mode promises to pass.

In chains of iptables, of either engine, it inserts the fewest accepts that let
those pass: where the owner wants them (DOCKER-USER, ufw's user chains), or else at
the head of INPUT, OUTPUT or FORWARD. Each bears the comment qnet:NETWORK. qnet puts it
back within 2 s when the other firewall starts or reloads, and deletes it with
the network. Here with Docker and ufw and, as Docker does, net.bridge.bridge-nf-call-iptables=1:

`)
	for _, mode := range []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT} {
		facts := hosttest.Laptop()
		facts.Filters = dockerAndUFW()
		n := goldenNetworks[string(mode)]
		n.Name = string(mode)
		p, err := New(n, facts, Options{Salt: hosttest.Salt})
		if err != nil {
			t.Fatal(err)
		}
		_, accepts := apply.SplitOptional(p.Steps)
		b.WriteString("```sh\n# " + string(mode) + "\n" + steptest.Script(accepts) + "\n# afterwards\n" + apply.UndoScript(accepts) + "\n```\n\n")
	}
	b.WriteString(`On another program's bridge, which ` + "`mode = \"bridge\"`" + ` joins, the accepts are for frames from or
to qnet's taps only (-m physdev). Of the host, they let guests reach DNS and ping at the
network's gateway address, and answer what the host sends them. Other services of the host
are the firewall's to open: qnet doctor names the command.

qnet does not edit other programs' native nftables chains, iptables' other tables, and the
kill-switch of a VPN. There a note says which program drops what, and the command that
lets it pass. qnet never changes policies and net.bridge.*.
`)
	return b.String()
}

// dockerAndUFW are the filters of a host with Docker and ufw, as far as they decide.
func dockerAndUFW() filters.Ruleset {
	chain := func(hook nft.Hook, jumps ...string) filters.Chain {
		c := filters.Chain{Name: strings.ToUpper(string(hook)), Type: "filter", Hook: hook, Policy: filters.Discard}
		for _, j := range jumps {
			c.Rules = append(c.Rules, filters.Rule{Verdict: filters.Jump, Chain: j, Text: "-A " + c.Name + " -j " + j})
		}
		return c
	}
	table := func(f nft.Family, chains ...filters.Chain) filters.Table {
		return filters.Table{Engine: filters.IPTablesNFT, Family: f, Name: "filter", Chains: chains}
	}
	return filters.Ruleset{
		BridgeIPv4: true, BridgeIPv6: true,
		Programs: filters.Programs{filters.IPTablesNFT: {nft.IP: "/usr/sbin/iptables-nft", nft.IP6: "/usr/sbin/ip6tables-nft"}},
		Tables: []filters.Table{
			table(nft.IP, chain(nft.Input, "ufw-user-input"), chain(nft.Forward, "DOCKER-USER", "ufw-user-forward"),
				filters.Chain{Name: "ufw-user-input"}, filters.Chain{Name: "ufw-user-forward"}, filters.Chain{Name: "DOCKER-USER"}),
			table(nft.IP6, chain(nft.Input, "ufw6-user-input"), chain(nft.Forward, "ufw6-user-forward"),
				filters.Chain{Name: "ufw6-user-input"}, filters.Chain{Name: "ufw6-user-forward"}),
		},
	}
}
