package keeper_test

import (
	"fmt"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// What a guest may reach holds for IPv6 as for IPv4: names, prefixes, the host's networks, the host,
// fragments included.
func TestEgressOverIPv6(t *testing.T) {
	inIPv6(t, []string{"by link", "all links"}, func(t *testing.T, o Options, _ *advertiser) {
		names := serveNames(t)
		defer names.down()
		defer serveTCP(t, "inet", "[2001:db8:ffff::1]:80", "[2001:db8:2::1]:80")()
		defer serveTCP(t, "vpn", "[2001:db8:9::2]:80")()
		defer serveTCP(t, "", "[::]:8080")()
		policy := listOf(t, "outside.example", "vpn.example", "2001:db8:9::/64", "[2001:db8:2::/64]:81")
		policy.NoLAN, policy.NoHost = true, true
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, IPv6: true}
		r := reaching(t, o, n, "web", 9, policy)
		free := reaching(t, o, n, "free", 10, reach.Policy{})
		for vm, reg := range map[string]*Registration{"web": r, "free": free} {
			lab.Sh(t, fmt.Sprintf("ip -n %[1]s link set eth0 down; ip -n %[1]s link set eth0 addrgenmode eui64; ip netns exec %[1]s sysctl -qw net.ipv6.conf.eth0.accept_ra=0 net.ipv6.conf.eth0.accept_dad=0; ip -n %[1]s link set eth0 up; ip -n %[1]s addr add %[2]s/64 dev eth0 nodad; ip -n %[1]s route add default via %[3]s dev eth0; ip -n %[1]s route replace default via 10.77.0.1",
				vm, reg.Ports()[0].Address6, ula.LinkLocal(bridgeMAC(reg.Info()))))
		}
		gateway := r.Info().Gateway6.String()
		dialled(t, "free", map[string]string{"[2001:db8:ffff::1]:80": "", "[2001:db8:9::2]:80": "", "[" + gateway + "]:8080": ""})
		dialled(t, "web", map[string]string{"[2001:db8:ffff::1]:80": refused, "[2001:db8:9::2]:80": refused, "[2001:db8:2::1]:80": refused, "[" + gateway + "]:8080": refused})
		for name, want := range map[string]string{"outside.example.": "2001:db8:ffff::1", "vpn.example.": "2001:db8:9::2", "evil.example.": filteredName} {
			for _, server := range []string{gateway, "2001:db8:dead::53", "10.77.0.1"} {
				if got := asks(t, "web", "udp", server, name, dnsmessage.TypeAAAA); got != want {
					t.Errorf("%s of %s: %q, want %q", name, server, got, want)
				}
			}
		}
		dialled(t, "web", map[string]string{"[2001:db8:ffff::1]:80": "", "[2001:db8:9::2]:80": refused, "[" + gateway + "]:53": ""})
		if !lab.Pings("web", "-s 4000 2001:db8:ffff::1") || lab.Pings("web", "-s 4000 2001:db8:2::1") || lab.Pings("web", "2001:db8:9::2") || !lab.Pings("web", gateway) {
			t.Error("pings")
		}
		unplug(t, free, "free")
		unplug(t, r, "web")
	})
}
