package firewalld

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The rules are about the guests only, and open nothing but DNS and ping of the gateway; the one
// that rejects is the last.
func TestGuestRules(t *testing.T) {
	guests := netip.MustParsePrefix("10.1.2.0/24")
	rules := ZoneRules(guests, netip.Prefix{})
	open := regexp.MustCompile(`destination address="10\.1\.2\.1/32" (port port="53" protocol="(udp|tcp)"|icmp-type name="echo-request") accept$`)
	for _, r := range rules[:len(rules)-1] {
		if !open.MatchString(r) {
			t.Errorf("opens more: %s", r)
		}
	}
	for _, r := range slices.Concat(rules, FormerZoneRules(guests)) {
		if !strings.Contains(r, `source address="10.1.2.0/24"`) {
			t.Errorf("%s: not only about the guests", r)
		}
	}
	if last := rules[len(rules)-1]; !strings.HasPrefix(last, `rule priority="32767"`) || !strings.HasSuffix(last, "reject") {
		t.Errorf("last: %s", last)
	}
}

// On a network with IPv6 the rules of IPv4 are the same, and guests reach as much of the host by
// the one family as by the other, and neighbor discovery.
func TestGuestRules6(t *testing.T) {
	guests, guests6 := netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd12:3456:789a:1::/64")
	rules := ZoneRules(guests, guests6)
	for _, r := range ZoneRules(guests, netip.Prefix{}) {
		if !slices.Contains(rules, r) {
			t.Errorf("lacks %s", r)
		}
	}
	open := regexp.MustCompile(`^rule family="ipv6" source address="(fd12:3456:789a:1::/64|fe80::/10)" (destination address="fd12:3456:789a:1::1/128" (port port="53" protocol="(udp|tcp)"|icmp-type name="echo-request")|icmp-type name="neighbour-(solicitation|advertisement)") accept$`)
	rejects := 0
	for _, r := range rules {
		switch six := strings.Contains(r, `family="ipv6"`); {
		case six && strings.HasPrefix(r, `rule priority="32767"`) && strings.HasSuffix(r, " reject"):
			rejects++
		case six && !open.MatchString(r):
			t.Errorf("opens more: %s", r)
		}
	}
	if rejects != 2 {
		t.Errorf("%d rules reject in %q", rejects, rules)
	}
}
