package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/ways"
	"github.com/qnet-vm/qnet/profiles"
)

// link is a link with a default route, of that MTU.
func link(name string, mtu int) host.Link {
	return host.Link{Name: name, Index: 2, MTU: mtu, Up: true, Carrier: true, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}
}

// online is a host with a default route by eth0.
func online() *Host {
	return &Host{facts: host.Facts{
		Links:  []host.Link{link("eth0", 1500)},
		Routes: []host.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "eth0", Via: netip.MustParseAddr("192.0.2.1")}},
		Ways:   []ways.Way{{Link: 2, Via: netip.MustParseAddr("192.0.2.1")}},
	}, files: fstest.MapFS{}}
}

// with gives the host files with one line each.
func with(files ...string) func(*Host) {
	fsys := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1] + "\n")}
	}
	return func(h *Host) { h.files = fsys }
}

// named gives the host a resolv.conf.
func named(t *testing.T, text string) func(*Host) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(h *Host) { h.resolvConf = path }
}

// dropping is a ruleset of nft that forwards nothing.
var dropping = filters.Ruleset{Tables: []filters.Table{{Engine: filters.NFTables, Family: nft.INet, Name: "f", Chains: []filters.Chain{
	{Name: "forward", Type: "filter", Hook: nft.Forward, Policy: filters.Discard},
}}}}

// guarding lets no new connection to the host's ports pass, but for those of DNS.
var guarding = filters.Ruleset{Tables: []filters.Table{{Engine: filters.NFTables, Family: nft.INet, Name: "f", Chains: []filters.Chain{
	{Name: "input", Type: "filter", Hook: nft.Input, Rules: []filters.Rule{{Verdict: filters.Discard, Matches: []filters.Match{
		{Fields: []filters.Field{{Name: filters.L4Proto, Len: 1}}, Any: []filters.Range{{Low: []byte{filters.TCP}, High: []byte{filters.TCP}}}},
		{Fields: []filters.Field{{Header: filters.TransportHeader, Offset: 2, Len: 2}}, Not: true, Any: []filters.Range{{Low: []byte{0, 53}, High: []byte{0, 53}}}},
		filters.AnyBit(filters.CTState, filters.StateNew, false),
	}}}},
}}}}

// filtered plans a network of mode nat on a host with these filters.
func filtered(r filters.Ruleset) func(*Host) {
	return func(h *Host) {
		p := natPlan()
		p.facts.Filters = r
		h.plans = []planned{p}
	}
}

// natPlan is a network of mode nat with its plan.
func natPlan() planned {
	n := plan.Network{Name: "nat", Mode: profiles.NAT}
	return planned{network: n, plan: plan.Plan{
		Network: n, Bridge: "qn-nat", Prefix: netip.MustParsePrefix("192.168.223.0/24"), Gateway: netip.MustParseAddr("192.168.223.1"), Uplinks: []string{"eth0"},
	}}
}

// Each check says what it found on a host of which the test knows everything.
func TestChecks(t *testing.T) {
	const strict, every = "proc/sys/net/ipv4/conf/eth0/rp_filter", "proc/sys/net/ipv4/conf/all/rp_filter"
	failed := errors.New(`plan network "lan": uplink "eth9": there is no such link`)
	for name, c := range map[string]struct {
		check    func(context.Context, *Host) []Finding
		change   func(*Host)
		status   Status
		evidence string // a part of it
		remedy   string // a part of it
	}{
		"an uplink":               {checkUplinks, func(*Host) {}, Pass, "guests leave by eth0 (its forwarding is turned on while guests run)", ""},
		"an uplink that forwards": {checkUplinks, with("proc/sys/net/ipv4/conf/eth0/forwarding", "1"), Pass, "guests leave by eth0 (forwards)", ""},
		"no uplink":               {checkUplinks, func(h *Host) { h.facts = host.Facts{} }, Warn, "the host has no uplink", "connect the host"},
		"no default route":        {checkUplinks, func(h *Host) { h.facts.Ways = nil }, Warn, "no default route: guests reach what eth0", "ip route add default via GATEWAY"},
		"MTU":                     {checkMTU, func(*Host) {}, Pass, "eth0 has MTU 1500", ""},
		"small MTU":               {checkMTU, func(h *Host) { h.facts.Links[0].MTU = 1400 }, Warn, "mtu = 1400 in the profile's", ""},
		"no MTU":                  {checkMTU, func(h *Host) { h.facts = host.Facts{} }, Unseen, "no default route", ""},
		"loose rp_filter":         {checkRPFilter, with(strict, "2", every, "1"), Pass, "off or loose", ""},
		"strict rp_filter":        {checkRPFilter, with(strict, "1", every, "0"), Pass, "strict on eth0, the only uplink", ""},
		"strict rp_filter of two": {checkRPFilter, func(h *Host) {
			with(every, "1")(h)
			h.facts.Links = append(h.facts.Links, link("eth1", 1500))
			h.facts.Routes = append(h.facts.Routes, host.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "eth1"})
		}, Warn, "strict on eth0, eth1, and the host has 2 uplinks", "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		"no conntrack":      {checkConntrack, func(*Host) {}, Pass, "nothing is tracked yet", ""},
		"room in conntrack": {checkConntrack, with("proc/sys/net/netfilter/nf_conntrack_count", "5", "proc/sys/net/netfilter/nf_conntrack_max", "100"), Pass, "5 connections are tracked, 100 fit", ""},
		"conntrack is full": {checkConntrack, with("proc/sys/net/netfilter/nf_conntrack_count", "95", "proc/sys/net/netfilter/nf_conntrack_max", "100"), Warn, "95 connections", "nf_conntrack_max=200"},
		"no resolver":       {checkResolvers, named(t, "options edns0"), Warn, "/etc/resolv.conf names none, and 127.0.0.1", "add a nameserver line"},
		"a dead resolver":   {checkResolvers, named(t, "nameserver 127.255.255.254"), Warn, "none of the host's resolvers has an answer for example.com: 127.255.255.254 does not answer (connection refused)", "look at /etc/resolv.conf"},
		"no manager":        {checkManagers, func(*Host) {}, Pass, "no program that configures links runs here", ""},
		"a manager":         {checkManagers, func(h *Host) { h.facts.Managers = []managers.Program{managers.NetworkManager} }, Pass, "qnet tells NetworkManager to leave qn* alone", ""},
		"no br_netfilter":   {checkBridgeNetfilter, func(*Host) {}, Pass, "IPv4 off, IPv6 off", ""},
		"br_netfilter":      {checkBridgeNetfilter, func(h *Host) { h.facts.Filters.BridgeIPv4 = true }, Pass, "IPv4 on, IPv6 off", ""},
		"a plan":            {checkPlans, func(h *Host) { h.plans = []planned{natPlan()} }, Pass, "network nat: bridge qn-nat, subnet 192.168.223.0/24 is free", ""},
		"a plan for a LAN": {checkPlans, func(h *Host) {
			n := plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}
			h.plans = []planned{{network: n, plan: plan.Plan{Network: n, Bridge: "qn-lan"}}}
		}, Pass, "network lan: bridge qn-lan, to the LAN by eth0", ""},
		"a plan for macvtap": {checkPlans, func(h *Host) {
			n := plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0", Macvtap: true}
			h.plans = []planned{{network: n, plan: plan.Plan{Network: n}}}
		}, Pass, "network lan: macvtap on eth0", ""},
		"no plan for a profile": {checkPlans, func(h *Host) {
			h.asked, h.plans = true, []planned{{network: plan.Network{Name: "lan", Mode: profiles.Bridge}, err: failed}}
		}, Fail, failed.Error(), "change the profile"},
		"no plan for the mode bridge": {checkPlans, func(h *Host) {
			h.plans = []planned{{network: plan.Network{Name: "bridge", Mode: profiles.Bridge}, err: failed}}
		}, Warn, failed.Error(), `use mode = "nat"`},
		"no plan because it runs": {checkPlans, func(h *Host) {
			h.facts.Links = append(h.facts.Links, host.Link{Name: host.BridgeName("lan"), Alias: filters.Mark("lan")})
			h.plans = []planned{{network: plan.Network{Name: "lan", Mode: profiles.Bridge}, err: failed}}
		}, Pass, "network lan: it runs, on bridge qn-lan", ""},
		"no filters":                      {checkFilters, func(h *Host) { h.plans = []planned{natPlan()} }, Pass, "no filter of another program drops", ""},
		"a filter":                        {checkFilters, filtered(dropping), Fail, "network nat: a ruleset of nft", `nft insert rule inet f forward iifname "qn-nat" accept and nft insert`},
		"a filter of the host's services": {checkFilters, filtered(guarding), Pass, "network nat: a ruleset of nft, such as /etc/nftables.conf keeps guests from the host's own services, but for DNS and ping; to open port N: nft insert rule inet f input", ""},
		"filters that cannot be read": {checkFilters, func(h *Host) {
			h.facts.Filters.Unread = []string{"the rules of nftables cannot be read without root's rights"}
			h.plans = []planned{{err: failed}}
		}, Unseen, "cannot be read", "sudo qnet doctor"},
		"no limit":           {checkLimits, with("proc/self/cgroup", "0::/user", "sys/fs/cgroup/user/pids.max", "max", "sys/fs/cgroup/user/pids.current", "5"), Pass, "open files", ""},
		"in a container":     {checkLimits, with("run/.containerenv", ""), Pass, "in a container (Podman)", ""},
		"few processes":      {checkLimits, with("proc/self/cgroup", "0::/user", "sys/fs/cgroup/user/pids.max", "10", "sys/fs/cgroup/user/pids.current", "5"), Warn, "5 more processes at most", "--pids-limit"},
		"no QEMU":            {checkQEMU, func(h *Host) { h.QEMU = "/nonexistent/qemu" }, Fail, "/nonexistent/qemu", "apt install"},
		"no QEMU for guests": {checkGuests, func(h *Host) { h.QEMU = "/nonexistent/qemu" }, Unseen, "there is no QEMU", ""},
		"no rights":          {checkRights, func(*Host) {}, Warn, "without CAP_NET_ADMIN", "sudo qnet run"},
		"rights":             {checkRights, func(h *Host) { h.admin = true }, Pass, "with CAP_NET_ADMIN", ""},
	} {
		h := online()
		c.change(h)
		list := c.check(t.Context(), h)
		if len(list) != 1 {
			t.Errorf("%s: got %d findings: %+v", name, len(list), list)
			continue
		}
		if f := list[0]; f.Status != c.status || !strings.Contains(f.Evidence, c.evidence) || !strings.Contains(f.Remedy, c.remedy) || c.remedy == "" && f.Remedy != "" {
			t.Errorf("%s: got %+v, want %s, %q, %q", name, f, c.status, c.evidence, c.remedy)
		}
	}
}

// What a container takes away from root.
func TestRightsOfContainers(t *testing.T) {
	for name, c := range map[string]struct {
		check  func(context.Context, *Host) []Finding
		change func(*Host)
		status Status
		words  string
	}{
		"no raw sockets":    {checkRights, func(h *Host) { h.admin, h.missing = true, []string{"CAP_NET_RAW"} }, Fail, "without CAP_NET_RAW in a container: --cap-add NET_RAW"},
		"read-only sysctls": {checkSysctls, func(h *Host) { h.facts.NoSysctls = "/proc/sys is read-only" }, Fail, "so a bridge cannot be set up in a container: --privileged"},
		"sysctls":           {checkSysctls, func(h *Host) { h.admin = true }, Pass, "can be written"},
		"sysctls of others": {checkSysctls, func(*Host) {}, Unseen, "only root"},
	} {
		h := online()
		c.change(h)
		if f := c.check(t.Context(), h)[0]; f.Status != c.status || !strings.Contains(f.Evidence+" "+f.Remedy, c.words) {
			t.Errorf("%s: got %+v, want %s, %q", name, f, c.status, c.words)
		}
	}
}

// What a namespace of its own showed, and what to do where a part could not be made.
func TestScratch(t *testing.T) {
	h := online()
	h.files = fstest.MapFS{".dockerenv": {}}
	for name, c := range map[string]struct {
		s      scratch
		err    error
		status Status
		text   string
	}{
		"made":         {scratch{}, nil, Pass, "made"},
		"no rights":    {scratch{err: unix.EPERM}, nil, Unseen, "only root"},
		"no namespace": {scratch{err: unix.ENOSPC}, nil, Fail, "no space left"},
		"not made":     {scratch{}, host.ErrUnsupported, Fail, host.ErrUnsupported.Error()},
	} {
		if f := c.s.finding(h, c.err, "made")[0]; f.Status != c.status || !strings.Contains(f.Evidence, c.text) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	for want, err := range map[string]error{"modprobe tun": host.ErrNoTun, "--cap-add NET_ADMIN": unix.EPERM, "modprobe bridge": host.ErrUnsupported} {
		if got := h.kernelRemedy(err); !strings.Contains(got, want) {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
	if got := h.kernelRemedy(errors.New("it broke")); got != "" {
		t.Errorf("of an unknown error: %q", got)
	}
	h.files = fstest.MapFS{}
	if got := h.kernelRemedy(host.ErrNoTun); !strings.HasPrefix(got, "reboot") {
		t.Errorf("without modules: %q", got)
	}
	h.scratch = &scratch{owned: false, trace: host.ErrUnsupported}
	if list := checkNFTables(t.Context(), h); len(list) != 2 || list[0].Status != Warn || list[1].Status != Warn {
		t.Errorf("without owner flag and trace: %+v", list)
	}
}

// The directories can be written, or the check says which cannot, and to whom that matters.
func TestDirectories(t *testing.T) {
	dir := lab.Dir(t) // its paths are short
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	check := func(run string, admin bool) Finding {
		h := online()
		h.RunDir, h.StateDir, h.admin = run, dir, admin
		return checkDirectories(t.Context(), h)[0]
	}
	if f := check(filepath.Join(dir, "new/run"), true); f.Status != Pass {
		t.Errorf("a new directory: %+v", f)
	}
	if f := check(file, true); f.Status != Fail || !strings.Contains(f.Evidence, "is no directory") {
		t.Errorf("a file: %+v", f)
	}
	if f := check(filepath.Join(file, "run"), false); f.Status != Unseen {
		t.Errorf("below a file, without rights: %+v", f)
	}
	if f := check(filepath.Join(dir, strings.Repeat("long/", 20)), true); f.Status != Warn || !strings.Contains(f.Evidence, "too long a path") {
		t.Errorf("a long path: %+v", f)
	}
	h := online()
	h.RunDir = filepath.Join(dir, "empty")
	if f := checkLeftovers(t.Context(), h)[0]; f.Status != Pass || f.Evidence != "none" {
		t.Errorf("leftovers of nothing: %+v", f)
	}
}

// The console tells how far a machine got.
func TestFollow(t *testing.T) {
	for name, c := range map[string]struct {
		printed []string
		stage   string
	}{
		"all of it":   {[]string{"SeaBIOS", "qnet doctor: begin", "qnet doctor: end"}, ""},
		"no loop":     {[]string{"SeaBIOS", "qnet doctor: begin"}, "its loop does not end"},
		"no boot":     {[]string{"SeaBIOS"}, "its boot sector is not run"},
		"no firmware": {nil, "its firmware says nothing"},
	} {
		machine, console := net.Pipe()
		go func() {
			for _, line := range c.printed {
				machine.Write([]byte(line + "\r\n"))
			}
			machine.Close()
		}()
		if took, stage := follow(console); stage != c.stage || took > time.Minute {
			t.Errorf("%s: %s, %q", name, took, stage)
		}
	}
}

// The checks of this process's own host say something, whatever it is.
func TestRun(t *testing.T) {
	r, err := Run(t.Context(), Options{RunDir: t.TempDir(), StateDir: t.TempDir(), QEMU: "/nonexistent/qemu"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Modes) != len(all) || len(r.Findings) < len(Checks) {
		t.Errorf("%d modes and %d findings of %d checks", len(r.Modes), len(r.Findings), len(Checks))
	}
	for _, f := range r.Findings {
		if f.Check == "" || f.Status == "" || f.Evidence == "" {
			t.Errorf("an empty finding: %+v", f)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}
