package netsetup

import (
	"cmp"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/nstest"
	"github.com/qnet-vm/qnet/profiles"
)

// noise is what differs though the state is the same: indexes, a tap's random MAC
// and its operational state, which follows no carrier; and what the commands
// cannot say: taps that do not persist, tables with an owner.
var noise = strings.NewReplacer(" persist on", "", " persist off", "")

var (
	noisy    = regexp.MustCompile(`^(link|addr): \d+: |^nft: \t(flags|comment) .*|# progname .*|^nft: # Warning.*|^(packet|nft: $).*`)
	tapState = regexp.MustCompile(`(qnweb0: .*) state (?:UNKNOWN|UP) (.* link/ether )\S+`)
	ifIndex  = regexp.MustCompile(`@if\d+`)
	nftMarks = regexp.MustCompile(`^nft: table (\S+ \S+) \{.*`)
)

// kernelState is the kernel's own listing of everything, without noise.
func kernelState(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, line := range nstest.Snapshot(t).Lines() {
		line = noise.Replace(noisy.ReplaceAllString(line, "$1"))
		line = ifIndex.ReplaceAllString(tapState.ReplaceAllString(line, "$1$2"), "")
		lines = append(lines, nftMarks.ReplaceAllString(line, "nft: table $1"))
	}
	slices.Sort(lines)
	return lines
}

func difference(a, b []string) string {
	var d strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			d.WriteString("- " + line + "\n")
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			d.WriteString("+ " + line + "\n")
		}
	}
	return d.String()
}

// hold opens the tap that ip(8) made, as QEMU would, so that it has a carrier.
func hold(t *testing.T, tap string) *os.File {
	t.Helper()
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(tap)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req); err != nil {
		t.Fatal(err)
	}
	return f
}

// Executing the commands that a plan prints gives the same kernel state as
// applying it, and so do the undo commands.
func TestCommandsEqualNetlink(t *testing.T) {
	for _, n := range []Network{
		{Name: "private", Mode: profiles.Private},
		{Name: "host-only", Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("10.91.0.0/24")},
		{Name: "nat", Mode: profiles.NAT},
		{Name: "bridge", Mode: profiles.Bridge, Uplink: "lan0"},
		{Name: "macvtap", Mode: profiles.Bridge, Macvtap: true},
	} {
		t.Run(n.Name, func(t *testing.T) {
			nstest.Require(t, nstest.Root, nstest.Tun, nstest.Program("nft"), nstest.Program("iptables-nft"), nstest.Program("iptables-legacy"))
			nstest.Run(t, func(t *testing.T) {
				nstest.Lab(t)
				// Up once, because a link keeps a queueing discipline from then on.
				nstest.Sh(t, "ip link add lan0 type veth peer name lan1; ip link set lan0 addrgenmode none up; ip link set lan1 addrgenmode none up; ip link set lan0 down")
				// Others whose drops are answered, one in each engine.
				nstest.Sh(t, "iptables-nft -P FORWARD DROP; iptables-nft -P INPUT DROP; ip6tables-legacy -P FORWARD DROP")
				compareWays(t, n)
			})
		})
	}
}

func compareWays(t *testing.T, n Network) {
	t.Helper()
	facts, err := Observe()
	if err != nil {
		t.Fatal(err)
	}
	plan, err := NewPlan(n, facts, PlanOptions{Salt: testSalt})
	if err != nil {
		t.Fatal(err)
	}
	steps := slices.Concat(plan.Steps, plan.PortSteps(Port{VM: "web", NIC: 0, MAC: guestMAC}))
	before := kernelState(t)

	host, err := NewHost()
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(host, steps, nil); err != nil {
		t.Fatal(err)
	}
	var byNetlink []string
	nstest.Eventually(t, 5*time.Second, "the carrier", func() bool {
		byNetlink = kernelState(t)
		return strings.Contains(nstest.Sh(t, "ip link show "+cmp.Or(plan.Bridge, "qnweb0")), "state UP")
	})
	byNetlink = kernelState(t)
	if err := Undo(host, steps); err != nil {
		t.Fatal(err)
	}
	host.Close()
	nstest.Eventually(t, 5*time.Second, "the state as before, by Undo", func() bool { return difference(before, kernelState(t)) == "" })

	nstest.Sh(t, Script(steps))
	if !n.Macvtap {
		tap := hold(t, "qnweb0")
		defer tap.Close()
	}
	var diff string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if diff = difference(byNetlink, kernelState(t)); diff == "" {
			break
		}
	}
	if diff != "" {
		t.Errorf("-: by netlink, +: by the printed commands\n%s", diff)
	}
	if len(byNetlink) < len(before)+10 {
		t.Errorf("the plan added %d lines only", len(byNetlink)-len(before))
	}
	nstest.Sh(t, UndoScript(steps))
	nstest.Eventually(t, 5*time.Second, "the state as before, by the undo commands", func() bool { return difference(before, kernelState(t)) == "" })
}
