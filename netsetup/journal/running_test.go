package journal

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
)

// journalOf is the journal of a network with a VM.
func journalOf(t *testing.T, n plan.Network, f host.Facts) *Journal {
	t.Helper()
	p, err := plan.New(n, f, plan.Options{Salt: hosttest.Salt})
	if err != nil {
		t.Fatal(err)
	}
	j, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	j.Ports["web"] = p.PortSteps(plan.NIC{VM: "web"})
	return j
}

func TestStands(t *testing.T) {
	own := journalOf(t, plan.Network{Name: "dev", Mode: profiles.Private}, hosttest.Laptop()).Plan
	joined := journalOf(t, plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "br0"}, hosttest.Laptop()).Plan
	macvtap := journalOf(t, plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0", Macvtap: true}, hosttest.Laptop()).Plan
	for name, c := range map[string]struct {
		p     plan.Plan
		state map[string]string
		want  bool
	}{
		"bridge":            {own, map[string]string{"link qn-dev": "qnet:dev"}, true},
		"another's bridge":  {own, map[string]string{"link qn-dev": ""}, false},
		"no bridge":         {own, nil, false},
		"joined bridge":     {joined, map[string]string{"link br0": ""}, true},
		"macvtap":           {macvtap, map[string]string{"link eth0": ""}, true},
		"macvtap, no eth0":  {macvtap, nil, false},
		"joined, no bridge": {joined, nil, false},
	} {
		if stands, err := Stands(t.Context(), (&steptest.Memory{State: c.state}).Kernel(), c.p); err != nil || stands != c.want {
			t.Errorf("%s: %t, %v", name, stands, err)
		}
	}
}

// Uplinks whose forwarding the network turned on count until another program turns all on.
func TestNewlyForwarded(t *testing.T) {
	j := journalOf(t, plan.Network{Name: "dev", Mode: profiles.NAT}, hosttest.Laptop())
	later, _ := plan.ForwardingStep(host.Facts{}, "eth7")
	j.Added = step.List{later}
	m := &steptest.Memory{State: map[string]string{"/" + host.IPForward: "0"}}
	if links, err := j.NewlyForwarded(t.Context(), m.Kernel()); err != nil || !slices.Equal(links, []string{"eth0", "eth7"}) {
		t.Errorf("got %v, %v", links, err)
	}
	m.State["/"+host.IPForward] = "1"
	if links, err := j.NewlyForwarded(t.Context(), m.Kernel()); err != nil || links != nil {
		t.Errorf("got %v, %v", links, err)
	}
}

// The uplink's MTU becomes that of the bridge, of the ports that are there, and of later ones.
func TestFollowMTU(t *testing.T) {
	j := journalOf(t, plan.Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth1"}, hosttest.Laptop())
	j.Ports["db"] = j.Plan.PortSteps(plan.NIC{VM: "db"}) // its tap is gone
	m := &steptest.Memory{State: map[string]string{"link qn-lan": "qnet:lan", "link qnweb0": "qnet:lan/web/0", "mtu qn-lan": "9000"}}
	for range 2 {
		if err := FollowMTU(t.Context(), m.Kernel(), j, 1400); err != nil || m.Calls != 2 {
			t.Fatalf("%d calls, %v", m.Calls, err)
		}
	}
	bridge, _ := step.Find[step.AddBridge](j.Plan.Steps)
	tap := j.Plan.PortSteps(plan.NIC{VM: "new"})[0].(step.AddTap)
	if m.State["mtu qn-lan"] != "1400" || m.State["mtu qnweb0"] != "1400" || bridge.MTU != 1400 || tap.MTU != 1400 {
		t.Errorf("state %v, bridge %d, a later tap %d", m.State, bridge.MTU, tap.MTU)
	}
	m.Fail, m.Times = m.Calls+1, 5
	if err := FollowMTU(t.Context(), m.Kernel(), j, 1300); !errors.Is(err, steptest.ErrInjected) || m.Calls != 4 {
		t.Errorf("%d calls, %v", m.Calls, err)
	}
}

func TestMetrics(t *testing.T) {
	j := journalOf(t, plan.Network{Name: "lan", Mode: profiles.Bridge}, hosttest.Settled())
	if j.MetricsRaised() {
		t.Error("raised at the start")
	}
	forward, _ := plan.ForwardingStep(host.Facts{}, "eth7")
	raise := step.RaiseMetrics{Link: "qn-lan", Held: hosttest.Settled().NIC.Held}
	j.Added = step.List{forward, raise}
	m := &steptest.Memory{State: map[string]string{"link qn-lan": "qnet:lan"}, Fail: 1}
	if err := j.RestoreMetrics(t.Context(), m.Kernel()); !errors.Is(err, steptest.ErrInjected) || !j.MetricsRaised() {
		t.Errorf("raised %t, %v", j.MetricsRaised(), err)
	}
	if err := j.RestoreMetrics(t.Context(), m.Kernel()); err != nil || j.MetricsRaised() || !reflect.DeepEqual(j.Added, step.List{forward}) {
		t.Errorf("added %v, %v", j.Added, err)
	}
}

// Two networks need eth0's forwarding: the second keeps the first one's value from before, and
// only the last puts it back.
func TestSharedSysctls(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, change func(*Journal)) rundir.Network {
		n := rundir.Network{RunDir: dir, Name: name}
		if err := n.Make(); err != nil {
			t.Fatal(err)
		}
		j := journalOf(t, plan.Network{Name: name, Mode: profiles.NAT}, hosttest.Laptop())
		change(j)
		if err := j.Write(n.Journal()); err != nil {
			t.Fatal(err)
		}
		return n
	}
	dev := write("dev", func(*Journal) {})
	key := host.ForwardingKey("eth0")
	sysctls := func() map[string]string { return map[string]string{key: "1", host.IPForward: "0", "other": "1"} }
	lab := rundir.Network{RunDir: dir, Name: "lab"}
	for name, c := range map[string]struct {
		n      rundir.Network
		now    string
		global string
		want   string
	}{
		"changed by the other":  {lab, "1", "0", "0"},
		"of the network itself": {dev, "1", "0", "1"},
		"changed again":         {lab, "2", "0", "2"},
		"wanted by all":         {lab, "1", "1", "1"},
	} {
		now := sysctls()
		now[key], now[host.IPForward] = c.now, c.global
		if OriginalSysctls(c.n)(now); now[key] != c.want || now["other"] != "1" {
			t.Errorf("%s: %v, want %s", name, now, c.want)
		}
	}
	steps := journalOf(t, plan.Network{Name: "lab", Mode: profiles.NAT}, hosttest.Laptop()).Steps()
	if got := WithoutShared(steps, lab); len(got) != len(steps)-1 {
		t.Errorf("%d of %d steps", len(got), len(steps))
	}
	if got := WithoutShared(steps, dev); len(got) != len(steps) { // dev is the last
		t.Errorf("%d of %d steps", len(got), len(steps))
	}
	// A network of another namespace, and a journal that cannot be read, share nothing.
	write("dev", func(j *Journal) { j.NetNS = "net:[1]" })
	if err := os.WriteFile(write("far", func(*Journal) {}).Journal(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := sysctls()
	if OriginalSysctls(lab)(now); !maps.Equal(now, sysctls()) {
		t.Errorf("got %v", now)
	}
}

func TestSubnetsAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if p := LoadSubnet(dir, "dev"); p.IsValid() {
		t.Errorf("got %s of nothing", p)
	}
	if err := SaveSubnet(dir, "dev", subnet); err != nil {
		t.Fatal(err)
	}
	if p := LoadSubnet(dir, "dev"); p != subnet {
		t.Errorf("got %s", p)
	}
	if err := os.WriteFile(subnetPath(dir, "dev"), []byte("192.168"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := LoadSubnet(dir, "dev"); p != (netip.Prefix{}) {
		t.Errorf("got %s of a damaged file", p)
	}
	if err := SaveSubnet(filepath.Join(subnetPath(dir, "dev"), "x"), "dev", subnet); err == nil || !strings.HasPrefix(err.Error(), "save subnet: ") {
		t.Errorf("below a file: %v", err)
	}
	if _, err := LoadSalt(filepath.Join(subnetPath(dir, "dev"), "x")); err == nil {
		t.Error("a salt below a file")
	}
}

// VMs that did not change are not encoded again.
func TestWriteKeepsWhatDidNotChange(t *testing.T) {
	j := journalOf(t, plan.Network{Name: "dev", Mode: profiles.Private}, hosttest.Laptop())
	path := filepath.Join(t.TempDir(), "journal.json")
	for _, vm := range []string{"web", "db"} {
		j.Ports[vm] = j.Plan.PortSteps(plan.NIC{VM: vm})
		first := j.encoded["web"].json
		if err := j.Write(path); err != nil {
			t.Fatal(err)
		}
		if again := j.encoded["web"].json; vm == "db" && &first[0] != &again[0] {
			t.Error("web was encoded again")
		}
	}
	delete(j.Ports, "web")
	if err := j.Write(path); err != nil || len(j.encoded) != 1 {
		t.Errorf("%d kept, %v", len(j.encoded), err)
	}
	if err := j.Write(filepath.Join(path, "x")); err == nil {
		t.Error("written below a file")
	}
	if _, err := Read(filepath.Join(path, "x")); err == nil || !strings.HasPrefix(err.Error(), "read journal: ") {
		t.Errorf("got %v", err)
	}
}
