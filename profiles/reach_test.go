package profiles

import (
	"testing"

	"github.com/qnet-vm/qnet/profiles/reach"
)

func TestReachOfProfiles(t *testing.T) {
	p, err := decode("[[nic]]\nisolated = true\nhost = \"none\"\nlan = false\n[[nic]]\nhost = \"all\"\nlan = true\n[[nic]]\nmode = \"private\"\nisolated = true\nnetwork = \"p\"")
	if err != nil {
		t.Fatal(err)
	}
	want := []reach.Policy{{Isolated: true, NoHost: true, NoLAN: true}, {}, {Isolated: true}}
	for i, n := range p.NICs {
		if n.Reach != want[i] {
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
		"unguarded-lonely": {nic("guard = \"off\"\nisolated = true"), `but isolated = true tells the guest`},
	} {
		refuses(t, name, c.text, c.want)
	}
}
