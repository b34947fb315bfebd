package profiles

import (
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/profiles/reach"
)

func TestReachOfProfiles(t *testing.T) {
	p, err := decode("[[nic]]\nisolated = true\nhost = \"none\"\nlan = false\n[[nic]]\nhost = \"all\"\nlan = true\n[[nic]]\nmode = \"private\"\nisolated = true\nnetwork = \"p\"")
	if err != nil {
		t.Fatal(err)
	}
	p2, err := decode("[[nic]]\negress = []\n[[nic]]\negress = [\"DEB.debian.org:443\"]")
	if err != nil || !p2.NICs[0].Reach.Listed || p2.NICs[0].Reach.Entries != nil || p2.NICs[1].Reach.Entries[0].String() != "deb.debian.org:443" {
		t.Fatalf("got %+v, %v", p2, err)
	}
	want := []reach.Policy{{Isolated: true, NoHost: true, NoLAN: true}, {}, {Isolated: true}}
	for i, n := range p.NICs {
		if !n.Reach.Equal(want[i]) {
			t.Errorf("nic %d: got %+v", i, n.Reach)
		}
	}
}

func TestBadReach(t *testing.T) {
	nic := func(s string) string { return "[[nic]]\n" + s }
	for name, c := range map[string]struct{ text, want string }{
		"isolated-bridge":  {nic("mode = \"bridge\"\nisolated = true"), "vm.toml:3: nic[0].isolated: got true, but in mode bridge the guest is on the host's LAN"},
		"isolated-user":    {nic("mode = \"user\"\nisolated = true"), "vm.toml:3: nic[0].isolated: got true, but in mode user a guest has no neighbours"},
		"host-bridge":      {nic("mode = \"bridge\"\nhost = \"none\""), "the host's own firewall decides; allowed in: host-only, nat"},
		"host-private":     {nic("mode = \"private\"\nhost = \"all\""), "in mode private no guest reaches the host; allowed in: host-only, nat"},
		"host-user":        {nic("mode = \"user\"\nhost = \"none\""), "QEMU's own stack has no rules"},
		"host-else":        {nic("host = \"some\""), `nic[0].host: got "some", allowed: all, none`},
		"lan-host-only":    {nic("mode = \"host-only\"\nlan = false"), "in mode host-only no guest reaches a LAN; allowed in: nat"},
		"lan-bridge":       {nic("mode = \"bridge\"\nlan = true"), "in mode bridge the guest is on the LAN; allowed in: nat"},
		"lan-user":         {nic("mode = \"user\"\nlan = false"), "QEMU's own stack has no rules; allowed in: nat"},
		"lan-else":         {nic("lan = \"no\""), `nic[0].lan: got the string "no", allowed: true or false`},
		"without-a-guard":  {nic("guard = \"off\"\nlan = false"), `nic[0].guard: got "off", but lan = false tells the guest by its own MAC`},
		"list-host-only":   {nic("mode = \"host-only\"\negress = []"), "vm.toml:3: nic[0].egress: got 0 entries, but in mode host-only no guest reaches a LAN; allowed in: nat"},
		"list-bad-entry":   {nic("egress = [\"deb.debian.org\",\n\"*\"]"), `vm.toml:2: nic[0].egress[1]: got "*": * alone is every name: leave egress out`},
		"list-bad-deny":    {nic("egress = [\"!evil.example\"]"), "nic[0].egress[0]: got \"!evil.example\": a name cannot be denied"},
		"list-word":        {nic("egress = \"learn\""), `nic[0].egress: got the string "learn", allowed: an array`},
		"list-unguarded":   {nic("guard = \"off\"\negress = []"), `but egress tells the guest`},
		"list-too-long":    {nic("egress = [" + strings.Repeat("\"10.0.0.1\",", 257) + "]"), "got 257 entries"},
		"unguarded-lonely": {nic("guard = \"off\"\nisolated = true"), `but isolated = true tells the guest`},
	} {
		refuses(t, name, c.text, c.want)
	}
}
