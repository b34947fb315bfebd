package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Note is what the users of a network's VMs should know.
type Note struct {
	Subject string `json:"subject,omitempty"` // what it is about: "network dev", "VM web", "uplink eth0"
	Text    string `json:"text"`              // what has happened, as a sentence that names the subject
	Remedy  string `json:"remedy,omitempty"`  // what the user can do about it; "" if nothing
}

// String is the sentence with its remedy.
func (n Note) String() string {
	if n.Remedy == "" {
		return n.Text
	}
	return n.Text + "; " + n.Remedy
}

// Sentences are the notes as text.
func Sentences(notes []Note) []string {
	var list []string
	for _, n := range notes {
		list = append(list, n.String())
	}
	return list
}

// note says something about the network.
func (p *Plan) note(text, remedy string) Note {
	subject := "network " + p.Network.Name
	return Note{Subject: subject, Text: subject + ": " + text, Remedy: remedy}
}

func userZoneNote(bridge, zone string) string {
	return fmt.Sprintf("your settings of firewalld put bridge %s into zone %q: guests reach what that zone lets them reach", bridge, zone)
}

func sharedSubnetNote(p netip.Prefix, network, other string) string {
	return fmt.Sprintf("subnet %s of network %s is also that of %s: only one of them can run; choose another subnet for one", p, network, other)
}

func stpNote(bridge string) string {
	return fmt.Sprintf("bridge %s runs STP: a VM starts when its port forwards, often 30 s after it joined", bridge)
}

func macvtapNote(network, uplink string) string {
	return fmt.Sprintf("network %s is by macvtap on %s: this host and its VMs do not reach each other (VMs and the rest of the LAN do); leave macvtap out if they must",
		network, uplink)
}

// noWayNote is about guests that the host gives no way out, though it has one itself.
func noWayNote(network, link string) string {
	return fmt.Sprintf("guests of network %s do not reach the Internet: this host's own packets leave by %s, but no policy rule (ip rule) gives guests' packets a route", network, link)
}

// onlyIPv6Note is about a host that has no default route of IPv4.
func onlyIPv6Note(p *Plan, link string) string {
	network := p.Network.Name
	if p.Outward6 {
		return fmt.Sprintf("guests of network %s reach the Internet by IPv6 alone, as this host does (%s)", network, link)
	}
	if p.Prefix6.IsValid() {
		return fmt.Sprintf("guests of network %s do not reach the Internet: this host does by IPv6 alone (%s), and does not forward that for them", network, link)
	}
	return fmt.Sprintf("guests of network %s have IPv4 alone, and this host reaches the Internet by IPv6 alone (%s): they reach this host and its LANs; ipv6 = \"auto\" in [network.%s] or mode bridge gives them IPv6", network, link, network)
}

// otherWayNote is about guests that leave by another way than the host, past a VPN for example.
func otherWayNote(network, link, own string) string {
	return fmt.Sprintf("guests of network %s leave by %s, and this host's own packets by %s: policy rules (ip rule) tell the two apart", network, link, own)
}

// noRouteNote is about guests that may leave only by a link without a default route.
func noRouteNote(network, link string) string {
	return fmt.Sprintf("guests of network %s may leave by uplink %s alone, and no default route leads by it: they reach what is directly on %s, and no Internet",
		network, link, link)
}

// noAddressNote is about an uplink by which answers do not come back.
func noAddressNote(network, link string) string {
	return fmt.Sprintf("guests of network %s leave by uplink %s by the address of another link, as %s has none of IPv4: answers come back only if the other end knows that", network, link, link)
}

// lateBridgeNote is about a bridge that came while the network runs.
func lateBridgeNote(network, bridge string) string {
	return fmt.Sprintf("guests of network %s get no answers by bridge %s, which came while its VMs run and whose frames iptables sees (br_netfilter): stop all VMs of the network and start them again", network, bridge)
}

// deadUplinkNote is about an uplink by which nothing leaves now.
func deadUplinkNote(network, link, why string) string {
	return fmt.Sprintf("guests of network %s reach nothing outside until its uplink works: %s %s", network, link, why)
}

// deadLANNote is about a bridge that VMs join and that has no LAN.
func deadLANNote(network, bridge, why string) string {
	return fmt.Sprintf("VMs of network %s reach this host and each other, and no LAN: %s %s", network, bridge, why)
}

func mtuNote(p *Plan, uplink host.Link) string {
	return fmt.Sprintf("network %s has mtu %d and its uplink %s %d: the host cuts what guests send outside to that", p.Network.Name, p.MTU, uplink.Name, uplink.MTU)
}

// moveNotes tell of other programs' rules that name the NIC: after a move, packets come in
// and go out by the bridge, so those rules match nothing.
func moveNotes(f host.Facts, up host.Link, bridge string) []string {
	var rules []string
	for _, t := range f.Filters.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if namesLink(r.Text, up.Name) {
					rules = append(rules, fmt.Sprintf("%s %s %s: %s", t.Engine, t.Name, c.Name, r.Text))
				}
			}
		}
	}
	if len(rules) == 0 {
		return nil
	}
	more := ""
	if len(rules) > 1 {
		more = fmt.Sprintf(", and %d more", len(rules)-1)
	}
	return []string{fmt.Sprintf("while a VM runs, packets come in by %s and not by %s, so rules that name %s do not match them: %q%s; add the same rules for %s if they matter",
		bridge, up.Name, up.Name, rules[0], more, bridge)}
}

// namesLink reports whether a rule's text holds the link's name as a word.
func namesLink(text, link string) bool {
	return slices.ContainsFunc(strings.Fields(text), func(word string) bool { return strings.Trim(word, `"{},`) == link })
}
