package plan

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
)

const hostChanges = "../../docs/host-changes.md"

// chapters introduce the plans of docs/host-changes.md.
var chapters = []struct{ plan, title, intro string }{
	{"private", "private", `A bridge without an address. The netdev table drops every frame that would go
up from the bridge to the host, ARP and IPv6 included; the inet table does the
same for what a firewall's bridge hooks show to the host.`},
	{"host-only", "host-only", `A bridge with the host's address. Nothing is forwarded: the bridge's own
forwarding is off, and the rules drop it even where another program turns it on.`},
	{"nat", "nat", `As host-only, and forwarded and masqueraded. Only links whose forwarding was off
get it turned on (here eth0); the set "newly_forwarded" names them, and the last rule of
through_host drops whatever that would newly let pass between the host's other
links. The global ip_forward is not written; where another program turns it on
meanwhile, the set is emptied, and the links keep forwarding. Uplinks that appear while VMs run
are added the same way.`},
	{"bridge", "bridge, with a NIC to spare", `A NIC without an address becomes a port of a new bridge, which takes over the
NIC's MAC and MTU. Where uplink names a bridge that exists, only the tap is added.`},
	{"move", "bridge, with the NIC the host itself uses", `The host's addresses, routes of every table, neighbours and policy rules that name
the NIC move to the bridge, which has the NIC's MAC, MTU and sysctls, and at the
end what is there by then moves back. Each is there on both links before it
goes from the one, and qnet sends each block of commands as one request.

What systemd-resolved knows of the NIC, where it runs, it is told of the bridge.

Two things these commands cannot say. A default route that the kernel got by an
IPv6 router advertisement is added with the flags of one and a metric smaller by
one, so that the next advertisement, which qnet asks for, replaces it by the
kernel's own. And neighbours that were learned are taken along too.`},
	{"macvtap", "bridge with macvtap = true", `The NIC, its addresses and who manages it stay as they are; each NIC of a VM gets a
macvtap link on it. (A NIC that is down is set up, and down again afterwards.)`},
}

const pinsChapter = `## When another program takes the VMs' addresses

A VPN that comes up while VMs run may bring a route for their subnet, or for a
part of it, or a policy rule that leads past the main table. In host-only and nat
each VM whose address such a route takes then gets a host route on the bridge,
within moments; and where it takes a policy rule to be found, there is one directly
before the one that takes the address, which looks for nothing but host routes.
Everything else goes where the other program wants it. The user is told who it is;
when the other's route goes, these go too. They bear the protocol number 113.
`

// goldenPins are the pins of a guest that a rule of priority 100 leads past the
// main table.
func goldenPins() string {
	steps := Pins{Guests: []netip.Addr{netip.MustParseAddr("192.168.223.10")}, Rules: []int{99}}.Steps("qn-nat", netip.MustParsePrefix("192.168.223.0/24"))
	return "# set up\n" + steptest.Script(steps) + "\n\n# afterwards\n" + apply.UndoScript(steps) + "\n"
}

const firewalldChapter = `## Beside firewalld

firewalld lets nothing pass from and to a link that is in no zone of its own. So
qnet puts its bridge into one, over D-Bus, in the running firewalld only: nothing
is permanent, and a reload or restart, after which firewalld knows nothing of it
any more, is followed by the same again. In host-only and nat that is "trusted",
with rules for the network's guests: of the host they reach the gateway address,
all ports. In private and bridge, where a zone is needed only if br_netfilter is
on, it is the default zone or the uplink's. A bridge that you put into a zone
yourself stays there, and gets no rules: "firewall-cmd --permanent --zone=ZONE
--add-interface=qn-NETWORK".

firewalld keeps empty chains of a zone it once used until it reloads.
`

// goldenZone is what firewalld is told of a nat network, and the undo.
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
` + "`go test ./netsetup -update`" + `. ` + "`qnet plan vm.toml`" + ` shows the like for your profile
and your host, ` + "`qnet run -v`" + ` while it is done. qnet executes none of these
programs, it speaks netlink; but for iptables, whose chains only it may write to.

Two things differ from what the commands can say: qnet's taps are not
persistent, so they go away with QEMU; and where the kernel knows the nftables
flags "owner" and "persist", the tables carry them, so that another program's
` + "`nft flush ruleset`" + ` leaves them alone.

Besides, while VMs run: files in /run/qnet; in host-only and nat a name server on
the bridge's address, a packet socket that answers DHCP, and, where
systemd-resolved runs, the bridge's name server and the domain ~qnet told to it;
where firewalld runs, the bridge in one of its zones, see below.
For good, in /var/lib/qnet: the host's salt (from which MACs and subnets derive),
the subnets chosen, the addresses given, and each VM's last logs. Nothing else is
written but what the next chapter tells; no service, no file of another program,
no default policy and no rule of another's is ever touched. Where another's rules
drop what the network needs, see the last chapters.

## Beside NetworkManager and systemd-networkd

Before the first link appears, in every mode, each that runs is told to leave
links named qn* alone, by a file of its run-time configuration. All networks
share it, and the last one removes it. To read it, the program reads its other
files too: what you changed in them and have not applied yet takes effect then.
ConnMan has no such thing: a run tells what to add to its main.conf. dhcpcd leaves
bridges and taps alone by itself.

In mode bridge, the program that has the uplink is told to let go of it as well:
networkd by the file /run/systemd/network/0-qnet-UPLINK.network, NetworkManager by
"nmcli device set UPLINK managed no". Afterwards it gets the uplink back. See
[lan.md](lan.md).

` + "```sh\n# set up\n" + steptest.Script(LeaveAloneSteps(managers.Programs)) + "\n\n# afterwards\n" + apply.UndoScript(LeaveAloneSteps(managers.Programs)) + "\n```" + `
`)
	for _, c := range chapters {
		b.WriteString("\n## " + c.title + "\n\n" + c.intro + "\n\n```sh\n" + goldenPlan(t, c.plan) + "```\n")
	}
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
		t.Errorf("%s is not in step with the plans: go test ./netsetup -update", hostChanges)
	}
}

// acceptsDoc is the section on other firewalls, with the plans' accepts on a host
// where Docker and ufw drop what they can.
func acceptsDoc(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`
## Where another firewall drops the packets

An accept in a table of qnet's own does not help against a drop in another's: every
table is asked. So qnet reads the tables of others, at the start and whenever they
change, and walks through them what the network's mode promises.

In chains of iptables, of either engine, it inserts the fewest accepts that let
that pass: where the owner wants them (DOCKER-USER, ufw's user chains), or else at
the head of INPUT, OUTPUT or FORWARD. Each bears the comment qnet:NETWORK, is put
back within 2 s when the other firewall is started or reloaded, and is removed with
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
	b.WriteString(`On a bridge of another's, which ` + "`mode = \"bridge\"`" + ` joins, only frames from or to qnet's taps are
accepted (-m physdev). What guests may reach of the host by this is the network's
gateway address, all ports: a host-only or nat network promises it.

Not edited are native nftables chains of others, iptables' other tables, and the
kill-switch of a VPN. There a note says who drops what, and the command that lets
it pass. Policies and net.bridge.* are never changed.
`)
	return b.String()
}

// dockerAndUFW are the filters of a host with both, as far as they decide.
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
