package profiles

import (
	"net/netip"
	"strings"
	"testing"
)

func TestIPv6(t *testing.T) {
	p, err := Decode(strings.NewReader("[[nic]]\naddress6 = \"fd12:3456:789a:1::10\"\n[network.nat]\nipv6 = \"auto\"\nsubnet6 = \"fd12:3456:789a:1::/64\"\n"), "vm.toml")
	if err != nil {
		t.Fatal(err)
	}
	n := p.Networks["nat"]
	if !n.IPv6 || n.Subnet6 != netip.MustParsePrefix("fd12:3456:789a:1::/64") || p.NICs[0].Address6 != netip.MustParseAddr("fd12:3456:789a:1::10") {
		t.Errorf("%+v, %+v", n, p.NICs[0])
	}
	for _, mode := range []string{"private", "host-only", "nat", "bridge"} {
		p, err := Decode(strings.NewReader("[[nic]]\nmode = \""+mode+"\"\n[network."+mode+"]\nipv6 = false\n"), "vm.toml")
		if err != nil || p.Networks[mode].IPv6 {
			t.Errorf("%s: ipv6 = false: %+v, %v", mode, p, err)
		}
	}
}

func TestIPv6Mistakes(t *testing.T) {
	network := func(mode, keys string) string {
		return "[[nic]]\nmode = \"" + mode + "\"\nnetwork = \"n\"\n[network.n]\n" + keys + "\n"
	}
	nic := func(keys string) string {
		return "[[nic]]\nnetwork = \"n\"\n" + keys + "\n[[nic]]\nnetwork = \"n\"\naddress6 = \"fd00:1:2:3::9\"\n[network.n]\nipv6 = \"auto\"\nsubnet6 = \"fd00:1:2:3::/64\"\n"
	}
	for text, want := range map[string]string{
		network("nat", "ipv6 = true"):                                       "vm.toml:5: network.n.ipv6: got true, allowed: a string: auto, or false without quotes",
		network("nat", "ipv6 = \"off\""):                                    "vm.toml:5: network.n.ipv6: got \"off\", allowed: auto, or false without quotes",
		network("nat", "ipv6 = 6"):                                          "vm.toml:5: network.n.ipv6: got 6, allowed: a string: auto, or false without quotes",
		network("private", "ipv6 = \"auto\""):                               "mode private has no host in it to tell guests of a prefix: they have link-local addresses by themselves; allowed in: host-only, nat",
		network("bridge", "ipv6 = \"auto\""):                                "guests of mode bridge have the IPv6 of the host's LAN; allowed in: host-only, nat",
		network("nat", "subnet6 = \"fd00:1:2:3::/64\""):                     "vm.toml:5: network.n.subnet6: got \"fd00:1:2:3::/64\", but network \"n\" has no IPv6; allowed beside ipv6 = \"auto\"",
		network("nat", "ipv6 = false\nsubnet6 = \"fd00:1:2:3::/64\""):       "has no IPv6; allowed beside ipv6 = \"auto\"",
		network("nat", "ipv6 = \"auto\"\nsubnet6 = \"fd00:1:2::/48\""):      "vm.toml:6: network.n.subnet6: got \"fd00:1:2::/48\", allowed: /64",
		network("nat", "ipv6 = \"auto\"\nsubnet6 = \"2001:db8::/64\""):      "allowed: inside fd00::/8 (RFC 4193)",
		network("nat", "ipv6 = \"auto\"\nsubnet6 = \"fd00:1:2:3::1/64\""):   "whose host bits are set; allowed: fd00:1:2:3::/64",
		network("nat", "ipv6 = \"auto\"\nsubnet6 = \"10.0.0.0/24\""):        "allowed: an IPv6 prefix like",
		network("nat", "ipv6 = \"auto\"\nsubnet6 = \"::ffff:10.0.0.0/64\""): "allowed: an IPv6 prefix like",
		nic("address6 = \"fd00:1:2:3::9\""):                                 "vm.toml:6: nic[1].address6: got fd00:1:2:3::9, which nic[0] has already",
		nic("address6 = \"fd00:1:2:3::1\""):                                 "vm.toml:3: nic[0].address6: got fd00:1:2:3::1, allowed: fd00:1:2:3::2 to fd00:1:2:3::ffff:ffff",
		nic("address6 = \"fd00:1:2:4::5\""):                                 "nic[0].address6: got fd00:1:2:4::5, allowed: ",
		nic("address6 = \"fd00:1:2:3:5054:ff:fe00:1\""):                     "the others are the host's, or guests choose them",
		nic("address6 = \"fe80::1%eth0\""):                                  "allowed: an IPv6 address like",
		nic("address6 = \"10.0.0.1\""):                                      "allowed: an IPv6 address like",
		"[[nic]]\naddress6 = \"fd00:1:2:3::9\"\n":                           "the IPv6 prefix is not pinned; add [network.nat] with ipv6 = \"auto\" and subnet6 = ...",
		"[[nic]]\nmode = \"bridge\"\naddress6 = \"fd00:1:2:3::9\"\n":        "guests of mode bridge have the IPv6 of the host's LAN; allowed in: host-only, nat",
		"[[nic]]\nmode = \"user\"\naddress6 = \"fd00:1:2:3::9\"\n":          "mode user is on no network of qnet's; allowed in: host-only, nat",
	} {
		if _, err := Decode(strings.NewReader(text), "vm.toml"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}
