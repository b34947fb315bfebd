package reach

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/profiles"
)

// Each stage at which a guest can be stuck gets its own likely cause.
func TestStuckNamesStageAndCause(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.9")
	for _, c := range []struct {
		mode    profiles.Mode
		stage   guestwatch.Stage
		naks    int
		goal    Goal
		address netip.Addr
		want    []string
	}{
		{"nat", guestwatch.Silent, 0, Goal{}, netip.Addr{}, []string{"QEMU running, no frame", "still booting", "driver"}},
		{"nat", guestwatch.Frame, 0, Goal{}, netip.Addr{}, []string{"last stage: first frame", "no DHCP client"}},
		{"nat", guestwatch.Frame, 1, Goal{}, netip.Addr{}, []string{"refuses"}},
		{"private", guestwatch.Discover, 0, Goal{}, netip.Addr{}, []string{"last stage: DISCOVER", "private network has no DHCP server"}},
		{"bridge", guestwatch.Discover, 0, Goal{}, netip.Addr{}, []string{"LAN", "port security"}},
		{"nat", guestwatch.Discover, 0, Goal{}, netip.Addr{}, []string{"every address is taken", "qnet net"}},
		{"bridge", guestwatch.Offer, 0, Goal{}, netip.Addr{}, []string{"last stage: OFFER", "does not take"}},
		{"bridge", guestwatch.Request, 0, Goal{}, netip.Addr{}, []string{"last stage: REQUEST", "no server acknowledges"}},
		{"bridge", guestwatch.Request, 2, Goal{}, netip.Addr{}, []string{"refuses"}},
		{"bridge", guestwatch.ACK, 0, Goal{}, netip.Addr{}, []string{"last stage: ACK", "does not use it"}},
		{"nat", guestwatch.ARP, 0, Goal{Ping: true}, a, []string{"last stage: ARP", "firewall drops ping to 10.0.0.9"}},
		{"nat", guestwatch.DNSAnswer, 0, Goal{Port: 22}, a, []string{"last stage: DNS answer", "nothing listens on port 22"}},
	} {
		e := &Stuck{VM: control.State{Name: "web", Profile: "/web.toml", State: control.Running}, Goal: c.goal, After: 5 * time.Second, NIC: control.NIC{
			Mode: c.mode, Seen: guestwatch.State{Stages: 1 << c.stage &^ 1, NAKs: c.naks},
		}, Address: c.address}
		for _, w := range append(c.want, `"web"`, "5s") {
			if !strings.Contains(e.Error(), w) {
				t.Errorf("%s, %s: no %q in %q", c.mode, c.stage, w, e)
			}
		}
	}
}

// The cause is not the guest of a VM that does not run yet, or no longer.
func TestStuckBeforeItRuns(t *testing.T) {
	for state, want := range map[control.Phase]string{control.Starting: "network is not ready yet", control.Stopping: "asked to stop"} {
		e := &Stuck{VM: control.State{Name: "web", State: state}, Goal: Goal{}, After: time.Second, NIC: control.NIC{}, Address: netip.Addr{}}
		for _, w := range []string{"last stage: VM " + string(state), want} {
			if !strings.Contains(e.Error(), w) {
				t.Errorf("no %q in %q", w, e)
			}
		}
		if hint := e.Hint(); hint != "" {
			t.Errorf("%s: hint %q", state, hint)
		}
	}
}

// A guest that stands still is the cause, whatever address it had.
func TestStuckWhileItStandsStill(t *testing.T) {
	for _, c := range []struct {
		state control.State
		want  []string
	}{
		{control.State{State: control.Paused, Reason: "no space: a.raw", Disks: []string{"/d/a.raw"}}, []string{"VM paused (no space: a.raw)", "the host cannot write to /d/a.raw"}},
		{control.State{State: control.Paused}, []string{"VM paused", "QEMU stopped the guest"}},
		{control.State{State: control.Suspended}, []string{"VM suspended", "the guest sleeps"}},
		{control.State{Name: "web", State: control.Panicked}, []string{"VM panicked", "qnet logs web"}},
	} {
		e := &Stuck{VM: c.state, After: time.Second, Address: netip.MustParseAddr("10.0.0.9")}
		for _, w := range c.want {
			if !strings.Contains(e.Error(), w) {
				t.Errorf("%s: no %q in %q", c.state.Status(), w, e)
			}
		}
		if got := ProgressOf(c.state, control.NIC{}, e.Address); !strings.Contains(got, "VM "+c.state.Status()) {
			t.Errorf("got %q", got)
		}
	}
}

func TestParseGoal(t *testing.T) {
	for in, want := range map[string]Goal{"address": {}, "ping": {Ping: true}, "port:22": {Port: 22}} {
		if got, ok := ParseGoal(in); !ok || got != want {
			t.Errorf("%s: %+v, %v", in, got, ok)
		}
	}
	for _, in := range []string{"", "port", "port:", "port:0", "port:65536", "port:ssh", "luck"} {
		if _, ok := ParseGoal(in); ok {
			t.Errorf("%q is accepted", in)
		}
	}
}

// Port 22 counts as reached only when an SSH server answers; others when a server
// accepts.
func TestDials(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().(*net.TCPAddr).AddrPort()
	if !dials(t.Context(), address.Addr(), int(address.Port())) {
		t.Error("a server that accepts is not reached")
	}
	if !(Goal{}).Reached(t.Context(), address.Addr()) || !(Goal{Port: int(address.Port())}).Reached(t.Context(), address.Addr()) {
		t.Error("a goal is not reached")
	}
	l.Close()
	if dials(t.Context(), address.Addr(), int(address.Port())) {
		t.Error("a closed port is reached")
	}
}

func TestProgressOf(t *testing.T) {
	for want, c := range map[string]struct {
		state   control.Phase
		address netip.Addr
	}{
		"VM starting":      {control.Starting, netip.Addr{}},
		"QEMU running":     {control.Running, netip.Addr{}},
		"address 10.0.0.9": {control.Running, netip.MustParseAddr("10.0.0.9")},
	} {
		if got := ProgressOf(control.State{State: c.state}, control.NIC{}, c.address); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A NIC on a private network, whose guest may be seen first, keeps nobody from waiting for
// the address of another one.
func TestPrivateNICBesideAnother(t *testing.T) {
	seen := func(mode profiles.Mode, stage guestwatch.Stage, addresses ...netip.Addr) control.NIC {
		return control.NIC{Mode: mode, Seen: guestwatch.State{Stages: 1 << stage &^ 1, Addresses: addresses}}
	}
	here, there := netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("192.0.2.1")
	port := Goal{Port: 22}
	for name, c := range map[string]struct {
		nics       []control.NIC
		want       netip.Addr
		mode       profiles.Mode
		impossible bool
	}{
		"private-first":   {[]control.NIC{seen("private", guestwatch.Discover), seen("host-only", guestwatch.Silent)}, netip.Addr{}, "host-only", false},
		"private-address": {[]control.NIC{seen("private", guestwatch.ARP, there), seen("nat", guestwatch.ARP, here)}, here, "nat", false},
		"other-silent":    {[]control.NIC{seen("private", guestwatch.ARP, there), seen("nat", guestwatch.Silent)}, there, "private", false},
		"private-alone":   {[]control.NIC{seen("private", guestwatch.Discover)}, netip.Addr{}, "private", true},
	} {
		s := control.State{State: control.Running, NICs: c.nics}
		nic, address := AddressOf(s)
		if address != c.want || nic.Mode != c.mode || (port.Impossible(s, nic) != "") != c.impossible {
			t.Errorf("%s: NIC %s, address %s, %q", name, nic.Mode, address, port.Impossible(s, nic))
		}
	}
}
