package programs_test

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/doctor/probe"
	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/server"
	"github.com/qnet-vm/qnet/profiles"
)

func TestMain(m *testing.M) {
	lab.Instrument(os.Args)
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(server.Main(context.Background(), os.Args[2:], os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

// back is how soon guests must reach everything after the other program has read its
// settings again (F05).
const back = 2 * time.Second

// started is how soon guests must reach everything after the start of another program.
// It is longer, because the end of a start does not show: firewalld answers one request
// after the other.
const started = 4 * time.Second

var (
	modes    = []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT, profiles.Bridge}
	internet = netip.MustParseAddrPort("203.0.113.1:80")
	lanHost  = netip.MustParseAddr("10.55.0.1")
)

// host is the host of a test, with a network of each mode.
type host struct {
	*testing.T
	o       keeper.Options
	members map[profiles.Mode]*guest.Member
	led     []*led
	mu      sync.Mutex
	notes   []string
}

// newHost has eth0, which leads to a stand-in for the Internet with a web server and a
// name server, and eth1 without an address, on a LAN with a DHCP server.
func newHost(t *testing.T) *host {
	t.Helper()
	lab.Uplink(t)
	lab.Sh(t, `[ ! -d /proc/sys/net/bridge ] || sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
ip netns add lan
ip link add eth1 type veth peer name lan1 netns lan
ip link set eth1 addrgenmode none
ip -n lan link set lo up
ip -n lan link set lan1 up
ip link set eth1 up # once, because a link keeps a queueing discipline from then on
ip link set eth1 down
ip -n lan addr add 10.55.0.1/24 dev lan1`)
	dir := lab.Dir(t)
	h := &host{T: t, members: map[profiles.Mode]*guest.Member{}, o: keeper.Options{
		RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Exe: []string{"/proc/self/exe", "keeper"},
	}}
	h.o.Note = func(n keeper.Note) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.notes = append(h.notes, n.String())
	}
	resolv := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 203.0.113.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lab.Sh(t, "mount --bind "+resolv+" /etc/resolv.conf")
	in := func(ns string, args ...string) {
		lab.Daemon(t, append([]string{"ip", "netns", "exec", ns}, args...)...)
	}
	in("inet", "busybox", "httpd", "-f", "-p", internet.String(), "-h", t.TempDir())
	in("inet", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts", "--address=/#/198.51.100.7", "--listen-address=203.0.113.1", "--bind-interfaces")
	in("lan", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--port=0", "--leasefile-ro", "--dhcp-range=10.55.0.100,10.55.0.200,1h", "--interface=lan1", "--dhcp-authoritative")
	return h
}

func (h *host) network(m profiles.Mode) keeper.Network {
	n := keeper.Network{Name: string(m), Mode: m}
	if m == profiles.Bridge {
		n.Uplink = "eth1"
	}
	return n
}

// joinAll starts a VM in every mode and takes its lease.
func (h *host) joinAll() {
	h.Helper()
	for _, m := range modes {
		member, err := guest.Join(h.Context(), guest.Place{Keeper: h.o, Network: h.network(m), VM: "vm-" + string(m), NICs: 2})
		if err != nil {
			h.Fatalf("%s: %v", m, err)
		}
		h.members[m] = member
		for i, g := range member.Guests {
			if m == profiles.Private {
				g.Configure(guest.Lease{
					Address: netip.AddrFrom4([4]byte{169, 254, 9, byte(i + 1)}), Prefix: netip.MustParsePrefix("169.254.0.0/16"), MTU: 1500,
				})
				continue
			}
			lease, err := g.DHCP(h.Context(), 4*time.Second)
			if err != nil {
				h.Errorf("%s: no lease: %v", m, err)
			}
			g.Configure(lease)
		}
	}
}

func (h *host) leaveAll() {
	h.Helper()
	for m, member := range h.members {
		if err := member.Close(context.Background()); err != nil {
			h.Errorf("%s: %v", m, err)
		}
	}
}

// reaches is nil if a guest reaches what its mode promises. It tries that in short.
func (h *host) reaches(m profiles.Mode) error {
	member := h.members[m]
	g := member.Guests[0]
	const within = 300 * time.Millisecond
	ctx := h.Context()
	switch m {
	case profiles.Private:
		_, err := g.Ping(ctx, netip.AddrFrom4([4]byte{169, 254, 9, 2}), 84, within)
		return err
	case profiles.Bridge:
		_, err := g.Ping(ctx, lanHost, 84, within)
		return err
	case profiles.NAT:
		if _, err := g.Connect(ctx, internet, within); err != nil {
			return err
		}
	}
	if _, err := g.Ping(ctx, member.Info().Gateway, 84, within); err != nil {
		return err
	}
	_, err := g.Resolve(ctx, "host.qnet", within)
	return err
}

// await waits until a guest reaches what its mode promises. It returns how long that
// took.
func (h *host) await(m profiles.Mode, began time.Time, limit time.Duration) (time.Duration, error) {
	for {
		tried := time.Since(began)
		err := h.reaches(m)
		if err == nil || tried > limit {
			return time.Since(began), err
		}
	}
}

// probe tries all that a mode promises and forbids.
func (h *host) probe(m profiles.Mode) error {
	options := probe.Options{Target: internet, Name: "example.com"}
	if m == profiles.Bridge {
		options.Target = netip.AddrPortFrom(lanHost, 53)
	}
	r, err := probe.Run(h.Context(), h.o, h.network(m), options)
	if err != nil {
		return err
	}
	var failed []string
	for _, s := range r.Steps {
		// The LAN of the test has no name server and no way out. A trace follows the
		// borrowed address, and shows nothing that iptables-legacy drops.
		tried := (m != profiles.Bridge || s.Name == "lease" || s.Name == "gateway ARP") && s.Name != "borrowed address"
		if s.Outcome == probe.Fail && tried {
			failed = append(failed, fmt.Sprintf("%s: %s (%s)", s.Name, s.Detail, s.Cause))
		}
	}
	if failed != nil {
		return fmt.Errorf("%s", strings.Join(failed, "; "))
	}
	return nil
}

// told is the text of all notes so far.
func (h *host) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.notes, "\n")
}

// cell is one square of the matrix.
type cell struct {
	column  string        // one of columns
	network string        // that has to do with other programs for it, "" for the mode's, the column
	result  string        // "untouched", "accepts", "zone", "told"
	took    time.Duration // until guests reached everything
}

// try runs a program in one order with networks of all modes, and records the results.
func try(t *testing.T, p programs.Program, order string) {
	lab.Require(t, slices.Concat([]lab.Need{lab.Root, lab.Tun, lab.Program("nft"), lab.Program("dnsmasq"), lab.Program("busybox")}, p.Needs)...)
	lab.Run(t, func(t *testing.T) {
		h := newHost(t)
		if order != "qnet first" {
			p.Start(t)
		}
		if order == "reload" {
			p.Reload(t)
		}
		var state string
		var before lab.Host
		if order != "qnet first" {
			h.works(p, "before qnet")
			state = p.State(t)
			lab.Eventually(t, 5*time.Second, "addresses to settle", func() bool { return !strings.Contains(lab.Sh(t, "ip addr"), "tentative") })
			before = lab.Snapshot(t, h.o.RunDir)
		}
		h.joinAll()
		h.lead()
		began := time.Now()
		switch order {
		case "qnet first":
			p.Start(t)
			began = time.Now()
		case "reload":
			p.Reload(t)
			began = time.Now()
		}
		limit := back
		if order == "qnet first" {
			limit = started
		}
		cells := slices.Concat(h.look(p, began, limit), h.lookAtForwards(p, began, limit))
		h.mean(cells)
		h.probeAll(cells)
		h.works(p, "while qnet runs")
		h.unlead()
		h.leaveAll()
		h.after(p, order, state, before)
		record(t, p, order, cells)
	})
}

func (h *host) works(p programs.Program, when string) {
	h.Helper()
	if err := p.Works(h); err != nil {
		h.Errorf("%s, %s: %v", p.Name, when, err)
	}
}

// look is the result for each mode while both programs run.
func (h *host) look(p programs.Program, began time.Time, limit time.Duration) []cell {
	h.Helper()
	var cells []cell
	for _, m := range modes {
		c := cell{column: string(m), result: "untouched"}
		if text := p.Refuses(m); text != "" {
			c.result = "told"
			lab.Eventually(h, back, fmt.Sprintf("%s: told %q", m, text), func() bool { return strings.Contains(h.told(), text) })
			cells = append(cells, c)
			continue
		}
		var err error
		if c.took, err = h.await(m, began, limit); err != nil {
			h.Errorf("%s: after %s: %v\n%s", m, c.took, err, h.told())
		}
		cells = append(cells, c)
	}
	return cells
}

// probeAll tries all that the modes promise and forbid.
func (h *host) probeAll(cells []cell) {
	h.Helper()
	for _, c := range cells {
		m := profiles.Mode(c.column)
		if c.result == "told" || !slices.Contains(modes, m) {
			continue
		}
		if err := h.probe(m); err != nil {
			h.Errorf("%s: %v", m, err)
		}
	}
}

// mean adds what qnet did to the other program for what works.
func (h *host) mean(cells []cell) {
	h.Helper()
	rules := lab.Sh(h, "iptables-nft-save 2> /dev/null; ip6tables-nft-save 2> /dev/null\n"+lab.LegacyRules)
	zones, _ := lab.Try("firewall-cmd --get-active-zones") // "" where it does not run
	for i, c := range cells {
		network := cmp.Or(c.network, c.column)
		switch {
		case c.result == "told":
		case strings.Contains(zones, "qn-"+network):
			cells[i].result = "zone"
		case strings.Contains(rules, `"qnet:`+network+`" -j ACCEPT`):
			cells[i].result = "accepts"
		}
	}
}

// after checks that everything of the other program is as it was, or as the program makes
// it itself.
func (h *host) after(p programs.Program, order, state string, before lab.Host) {
	h.Helper()
	h.works(p, "after qnet")
	now := p.State(h)
	if order == "qnet first" {
		p.Reload(h) // which makes what the program makes itself, in any order
		state, now = sorted(p.State(h)), sorted(now)
		if strings.Contains(now, "qnet") {
			h.Errorf("%s has something of qnet's:\n%s", p.Name, now)
		}
	}
	if diff := lines(state, now); diff != "" {
		h.Errorf("%s is not as it was:\n%s", p.Name, diff)
	}
	if order == "reload" {
		p.Reload(h)
		if diff := lines(state, p.State(h)); diff != "" {
			h.Errorf("%s brings something back:\n%s", p.Name, diff)
		}
	}
	if order == "other first" {
		lab.Eventually(h, 2*time.Second, "the host as it was, but for what State tells of rules", func() bool {
			return others(lab.Diff(before, lab.Snapshot(h, h.o.RunDir))) == ""
		})
	}
}

// others are the lines of a difference that are not about nftables.
func others(diff string) string {
	var b strings.Builder
	for line := range strings.Lines(diff) {
		if !strings.HasPrefix(line[1:], " nft: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func sorted(text string) string {
	list := slices.Collect(strings.Lines(text))
	slices.Sort(list)
	return strings.Join(list, "")
}

// lines is the difference of two texts.
func lines(a, b string) string {
	if a == b {
		return ""
	}
	var d strings.Builder
	for line := range strings.Lines(b) {
		if !strings.Contains(a, line) {
			d.WriteString("+ " + line)
		}
	}
	for line := range strings.Lines(a) {
		if !strings.Contains(b, line) {
			d.WriteString("- " + line)
		}
	}
	if d.Len() == 0 {
		return "the order of lines"
	}
	return d.String()
}

// resultsEnv names the file to which the processes of the cells append.
const resultsEnv = "QNET_COEXIST_RESULTS"

func record(t *testing.T, p programs.Program, order string, cells []cell) {
	t.Helper()
	path := os.Getenv(resultsEnv)
	if t.Failed() || path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range cells {
		fmt.Fprintf(f, "%s|%s|%s|%s|%d|%s\n", p.Name, order, c.column, c.result, c.took.Milliseconds(), p.Version())
	}
}

// A few cells with the real programs; `make coexist` tries all.
func TestBesideDockerAndUFW(t *testing.T) {
	try(t, programs.Together(programs.UFW(), programs.Docker()), "reload")
}

func TestBesideDockerStartedLater(t *testing.T) { try(t, programs.Docker(), "qnet first") }
