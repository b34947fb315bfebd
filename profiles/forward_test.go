package profiles

import (
	"net/netip"
	"slices"
	"testing"
)

func TestPortsOfProfiles(t *testing.T) {
	p, err := decode("[[nic]]\nports = [\"127.0.0.1:2222:22\"]\n[[nic]]\nmode = \"user\"\nports = [\"*:53:53/udp\"]\n[[nic]]\nmode = \"bridge\"\nports = []")
	if err != nil {
		t.Fatal(err)
	}
	want := []Forward{{Proto: "udp", Port: 53, Guest: 53}}
	if !slices.Equal(p.NICs[1].Forwards, want) || len(p.NICs[0].Forwards) != 1 || p.NICs[2].Forwards != nil ||
		p.NICs[0].Forwards[0].Address != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("got %+v", p.NICs)
	}
}

func TestBadPorts(t *testing.T) {
	nic := func(s string) string { return "[[nic]]\n" + s }
	for name, c := range map[string]struct{ text, want string }{
		"a-string":      {nic("ports = \"2222:22\""), `nic[0].ports: got the string "2222:22", allowed: an array; write ports = ["2222:22"]`},
		"a-number":      {nic("ports = [22]"), "vm.toml:2: nic[0].ports[0]: got 22, allowed: a string"},
		"bad":           {nic("ports = [\n\"1:1\",\n\"22\"]"), `vm.toml:2: nic[0].ports[1]: got "22", allowed: a port of the host and one of the guest`},
		"twice":         {nic("ports = [\"2222:22\", \"2222:23\"]"), `vm.toml:2: nic[0].ports[1]: got "2222:23", but "127.0.0.1:2222:22" has 127.0.0.1:2222/tcp already`},
		"twice-in-nics": {nic("ports = [\"80:80\"]\n[[nic]]\nports = [\"*:80:81\"]"), `vm.toml:4: nic[1].ports[0]: got "*:80:81", but "127.0.0.1:80:80" has`},
		"in-one-range":  {nic("ports = [\"0.0.0.0:80-90:80-90\", \"127.0.0.1:85:1\"]"), `"0.0.0.0:85:85" has 127.0.0.1:85/tcp already`},
		"too-many":      {nic("ports = [\"1-128:1-128\"]\n[[nic]]\nports=[\"*:200:200\"]"), "vm.toml:4: nic[1].ports: got 257 forwards"},
		"private":       {nic("mode = \"private\"\nports = [\"2222:22\"]"), "vm.toml:3: nic[0].ports: mode private has none: the host is not on the network; allowed in: host-only, nat, bridge, user"},
		"none":          {nic("mode = \"none\"\nports = [\"2222:22\"]"), "the card is not connected"},
		"macvtap":       {nic("mode = \"bridge\"\nports = [\"2222:22\"]\n[network.bridge]\nmacvtap = true"), "vm.toml:3: nic[0].ports: network \"bridge\" has macvtap: host and guest do not reach each other"},
		"elsewhere":     {"ports = [\"2222:22\"]", "ports belongs in [[nic]]"},
		"of-qemu":       {nic("hostfwd = \"tcp::2222-:22\""), "did you mean ports?"},
	} {
		refuses(t, name, c.text, c.want)
	}
}
