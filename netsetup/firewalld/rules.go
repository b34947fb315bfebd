package firewalld

import (
	"fmt"
	"net/netip"
)

// lowest is the priority of the rules that come after all others.
const lowest = `rule priority="32767" `

// ZoneRules are rich rules (firewalld.richlanguage(5)) that let guests reach DNS and ping at the
// gateway's address, and nothing else of the host. A port that the administrator adds to the zone
// stands before those that reject. guests6 is not valid of a network of IPv4 alone.
func ZoneRules(guests, guests6 netip.Prefix) []string {
	from, _ := guestsRule(guests)
	rules := append(GatewayRules(guests, guests6), lowest+from+" reject")
	if guests6.IsValid() {
		for _, source := range []netip.Prefix{guests6, linkLocal} {
			rules = append(rules, lowest+fmt.Sprintf(`family="ipv6" source address=%q reject`, source))
		}
	}
	return rules
}

// GatewayRules are those of ZoneRules that let guests reach something.
func GatewayRules(guests, guests6 netip.Prefix) []string {
	_, gateway := guestsRule(guests)
	rules := gatewayRules(gateway)
	if !guests6.IsValid() {
		return rules
	}
	// What a neighbor asks and answers may be about any address of the host's.
	for _, source := range []netip.Prefix{guests6, linkLocal} {
		for _, kind := range []string{"neighbour-solicitation", "neighbour-advertisement"} {
			rules = append(rules, fmt.Sprintf(`rule family="ipv6" source address=%q icmp-type name=%q accept`, source, kind))
		}
	}
	_, gateway = guestsRule(guests6)
	return append(rules, gatewayRules(gateway)...)
}

// gatewayRules are those of one family.
func gatewayRules(gateway string) []string {
	return []string{
		gateway + ` port port="53" protocol="udp" accept`,
		gateway + ` port port="53" protocol="tcp" accept`,
		gateway + ` icmp-type name="echo-request" accept`,
	}
}

// linkLocal are the addresses by which guests also speak on a network with IPv6.
var linkLocal = netip.MustParsePrefix("fe80::/10")

// FormerZoneRules are those that an older qnet added and this one does not.
func FormerZoneRules(guests netip.Prefix) []string {
	_, gateway := guestsRule(guests)
	return []string{gateway + " accept"}
}

// guestsRule begins a rule about what guests send, and one about what they send to the gateway: the
// first address of the prefix that a host may have.
func guestsRule(guests netip.Prefix) (from, gateway string) {
	family, first := "ipv4", guests.Masked().Addr().Next()
	if first.Is6() {
		family = "ipv6"
	}
	from = fmt.Sprintf("family=%q source address=%q", family, guests)
	return from, fmt.Sprintf(`rule %s destination address="%s/%d"`, from, first, first.BitLen())
}
