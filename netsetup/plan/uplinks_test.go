package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/step/steptest"
	"github.com/qnet-vm/qnet/profiles"
)

// The link of the default route comes first; a pinned uplink is the only one, in the rules too.
func TestUplinksOfNAT(t *testing.T) {
	f := hosttest.Laptop()
	f.Links[1], f.Links[7] = f.Links[7], f.Links[1] // tun0 before eth0
	if p := mustPlan(t, Network{Name: "dev", Mode: profiles.NAT}, f); p.Uplinks[0] != "eth0" || len(p.Uplinks) < 2 {
		t.Errorf("uplinks %v", p.Uplinks)
	}
	p := mustPlan(t, Network{Name: "dev", Mode: profiles.NAT, Uplink: "eth1"}, f)
	if words := steptest.Script(p.Steps); !slices.Equal(p.Uplinks, []string{"eth1"}) || !strings.Contains(words, "oifname @pinned_uplinks") ||
		!strings.Contains(words, "set pinned_uplinks {\n\t\ttype ifname\n\t\telements = { \"eth1\" }") {
		t.Errorf("uplinks %v in\n%s", p.Uplinks, words)
	}
}

// An uplink that appears later gets forwarding if it has it off, and is in the plan's set.
func TestUplinkThatAppears(t *testing.T) {
	f := hosttest.Laptop()
	p := mustPlan(t, Network{Name: "dev", Mode: profiles.NAT}, f)
	before := len(p.sets()[0].Links)
	for range 2 {
		p.AddForwarded(host.Link{Name: "eth7"}, false)
		p.AddForwarded(host.Link{Name: "qn-lan", Kind: "bridge"}, false)
	}
	if set := p.sets()[0]; set.Name != "newly_forwarded" || len(set.Links) != before+2 || !slices.Contains(set.Links, "eth7") {
		t.Errorf("set %s has %v", set.Name, set.Links)
	}
	sets := p.LinkSets([]string{"eth8"}, nil, nil)
	if len(sets) != 2 || !sets[0].Pairs || !slices.Contains(sets[0].Links, "qn-lan") || slices.Contains(sets[0].Links, "eth7") || !slices.Equal(sets[1].Links, []string{"eth8"}) {
		t.Errorf("sets %+v", sets)
	}
	if words := steptest.Script(p.Steps); !strings.Contains(words, `"eth7"`) {
		t.Errorf("not in the table:\n%s", words)
	}
	other := mustPlan(t, Network{Name: "dev", Mode: profiles.HostOnly}, f)
	other.AddForwarded(host.Link{Name: "eth7"}, false) // has no such set
	if sets := other.LinkSets([]string{"eth7"}, nil, nil); len(sets) > 0 {
		t.Errorf("host-only has the sets %+v", sets)
	}
	for value, want := range map[string]bool{"0": true, "1": false} {
		f.Sysctls[host.ForwardingKey("eth7")] = value
		s, off := ForwardingStep(f, "eth7")
		if off != want || s != (step.SetSysctl{Key: host.ForwardingKey("eth7"), Value: "1", Old: "0", Wider: host.IPForward}) {
			t.Errorf("forwarding %s: %+v, %t", value, s, off)
		}
	}
	f.Sysctls[host.IPForward] = "1"
	if s, _ := ForwardingStep(f, "eth7"); s.Wider != "" {
		t.Errorf("turned off for one link only: %+v", s)
	}
}

func TestUplinkOf(t *testing.T) {
	for s, want := range map[step.SetSysctl]string{
		{Key: host.ForwardingKey("eth0.5"), Value: "1", Old: "0"}:   "eth0.5",
		{Key: host.ForwardingKey("qn-dev"), Value: "1"}:             "", // the network's own
		{Key: host.DisableIPv6Key("eth0"), Value: "1", Old: "0"}:    "",
		{Key: "net/ipv4/conf/eth0/rp_filter", Value: "2", Old: "1"}: "",
	} {
		if got, ok := UplinkOf(s); got != want && ok || ok != (want != "") {
			t.Errorf("%s: got %q, %t", s, got, ok)
		}
	}
}
