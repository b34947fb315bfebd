package cli

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/reach"
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
		goal    reach.Goal
		address netip.Addr
		want    []string
	}{
		{"nat", guestwatch.Silent, 0, reach.Goal{}, netip.Addr{}, []string{"QEMU running, no frame", "still booting", "driver"}},
		{"nat", guestwatch.Frame, 0, reach.Goal{}, netip.Addr{}, []string{"last stage: first frame", "no DHCP client"}},
		{"nat", guestwatch.Frame, 1, reach.Goal{}, netip.Addr{}, []string{"refuses"}},
		{"private", guestwatch.Discover, 0, reach.Goal{}, netip.Addr{}, []string{"last stage: DISCOVER", "private network has no DHCP server"}},
		{"bridge", guestwatch.Discover, 0, reach.Goal{}, netip.Addr{}, []string{"LAN", "port security"}},
		{"nat", guestwatch.Discover, 0, reach.Goal{}, netip.Addr{}, []string{"every address is taken", "qnet net"}},
		{"bridge", guestwatch.Offer, 0, reach.Goal{}, netip.Addr{}, []string{"last stage: OFFER", "does not take"}},
		{"bridge", guestwatch.Request, 0, reach.Goal{}, netip.Addr{}, []string{"last stage: REQUEST", "no server acknowledges"}},
		{"bridge", guestwatch.Request, 2, reach.Goal{}, netip.Addr{}, []string{"refuses"}},
		{"bridge", guestwatch.ACK, 0, reach.Goal{}, netip.Addr{}, []string{"last stage: ACK", "does not use it"}},
		{"nat", guestwatch.ARP, 0, reach.Goal{Ping: true}, a, []string{"last stage: ARP", "firewall drops ping to 10.0.0.9"}},
		{"nat", guestwatch.DNSAnswer, 0, reach.Goal{Port: 22}, a, []string{"last stage: DNS answer", "nothing listens on port 22"}},
	} {
		e := &reach.Stuck{VM: control.State{Name: "web", Profile: "/web.toml", State: control.Running}, Goal: c.goal, After: 5 * time.Second, NIC: control.NIC{
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
		e := &reach.Stuck{VM: control.State{Name: "web", State: state}, Goal: reach.Goal{}, After: time.Second, NIC: control.NIC{}, Address: netip.Addr{}}
		for _, w := range []string{"last stage: VM " + string(state), want} {
			if !strings.Contains(e.Error(), w) {
				t.Errorf("no %q in %q", w, e)
			}
		}
		if hint := hintFor(e); hint != "" {
			t.Errorf("%s: hint %q", state, hint)
		}
	}
}

// There is no hint to wait for an address that qnet will never see.
func TestNoAddress(t *testing.T) {
	for _, never := range []bool{false, true} {
		e := &noAddress{"web", "no frame", never}
		if waits := strings.Contains(hintFor(e), "qnet wait"); waits == never || never != strings.Contains(e.Error(), "no NIC") {
			t.Errorf("never %t: %q, hint %q", never, e, hintFor(e))
		}
	}
}

func TestParseGoal(t *testing.T) {
	for in, want := range map[string]reach.Goal{"address": {}, "ping": {Ping: true}, "port:22": {Port: 22}} {
		if got, err := parseGoal(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "port", "port:", "port:0", "port:65536", "port:ssh", "luck"} {
		if _, err := parseGoal(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}
