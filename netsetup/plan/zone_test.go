package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host/hosttest"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

func TestZoneOfAPlan(t *testing.T) {
	running := firewalld.State{
		Running: true, Default: "public", Zones: map[string]string{"eth1": "home"},
	}
	unbound := running
	unbound.Zones = nil
	ours := running
	ours.Zones = map[string]string{"qn-dev": "work"}
	for name, c := range map[string]struct {
		mode      profiles.Mode
		uplink    string
		firewalld firewalld.State
		want      string // zone and number of rules
	}{
		"none runs":             {profiles.NAT, "", firewalld.State{}, ""},
		"private":               {profiles.Private, "", running, "public 0"},
		"host-only":             {profiles.HostOnly, "", running, "trusted 4"},
		"nat":                   {profiles.NAT, "", running, "trusted 4"},
		"in a zone already":     {profiles.NAT, "", ours, ""},
		"the uplink's":          {profiles.Bridge, "eth1", running, "home 0"},
		"uplink without a zone": {profiles.Bridge, "eth1", unbound, "public 0"},
		"the host's own bridge": {profiles.Bridge, "br0", running, ""},
	} {
		f := hosttest.Laptop()
		f.Firewalld = c.firewalld
		p, err := New(Network{Name: "dev", Mode: c.mode, Uplink: c.uplink}, f, Options{Salt: hosttest.Salt})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if s, ok := step.Find[step.SetZone](p.Steps); ok {
			got = fmt.Sprintf("%s %d", s.Zone.Name, len(s.Zone.Rules))
			if s.Zone.Link != "qn-dev" {
				t.Errorf("%s: link %q", name, s.Zone.Link)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
		raw, err := json.Marshal(p.Steps)
		if err != nil {
			t.Fatal(err)
		}
		var back step.List
		if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, p.Steps) && len(p.Steps) > 0 {
			t.Errorf("%s: the journal gives back %v, %v", name, back, err)
		}
	}
}
