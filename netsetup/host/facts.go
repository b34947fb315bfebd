package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/defined"
	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/ways"
)

// Facts is a snapshot of what a plan depends on. It holds no handles and encodes as JSON.
type Facts struct {
	Links     []Link            `json:"links"`
	Routes    []Route           `json:"routes"`             // IPv4, every table
	Routes6   []Route           `json:"routes6,omitempty"`  // of ObserveIPv6
	Routers6  []string          `json:"routers6,omitempty"` // the links that forward IPv6 while not all do
	Rules     []fib.Rule        `json:"rules,omitempty"`
	Ways      []ways.Way        `json:"ways,omitempty"`    // of the host's packets to the Internet, the kernel's choice first
	Outward   []fib.Route       `json:"outward,omitempty"` // the IPv4 routes that decide about samples
	Defined   []defined.Network `json:"defined,omitempty"`
	Resolvers []netip.Addr      `json:"resolvers"`            // of /etc/resolv.conf, and of systemd-resolved's own
	Sysctls   map[string]string `json:"sysctls"`              // net.ipv4.ip_forward, and net.ipv4.conf.<link>.forwarding of every link
	HasIPv6   bool              `json:"has_ipv6"`             // /proc/sys/net/ipv6 exists
	NoSysctls string            `json:"no_sysctls,omitempty"` // why sysctls cannot be set, "" if they can, as far as the caller sees
	NIC       NIC               `json:"nic,omitzero"`
	Firewalld firewalld.State   `json:"firewalld"`

	Managers []managers.Program `json:"configurators,omitempty"` // those that run in this namespace
	Filters  filters.Ruleset    `json:"filters"`                 // of other programs

	Unknown []string `json:"unknown,omitempty"` // what could not be read, and why, for the user
}

// NIC is what a plan must know besides of the link that a network in mode bridge joins.
type NIC struct {
	Held     Holdings     `json:"held"`
	Sysctls  []LinkSysctl `json:"conf,omitempty"`     // those that differ from a new link's
	RPFilter string       `json:"rp_filter"`          // of IPv4
	GenMode  string       `json:"gen_mode,omitempty"` // addr_gen_mode; "" where IPv6 is off
	Hooks    []string     `json:"programs,omitempty"` // what handles its frames before a bridge would: "an XDP program"

	Client managers.Client   `json:"client,omitzero"` // the program that configures it
	DNS    resolved.Settings `json:"dns,omitzero"`    // of systemd-resolved

	Asked   bool       `json:"asked,omitempty"`   // Observe asked for what follows
	Answers []Neighbor `json:"answers,omitempty"` // of the gateways, and of Peer
	Peer    netip.Addr `json:"peer,omitzero"`     // the other end of the session qnet runs in, if that comes in by this NIC
}

// LinkSysctl is a sysctl of a link.
type LinkSysctl struct {
	Dir   string `json:"dir"`  // "net/ipv4/conf"
	Name  string `json:"name"` // "accept_local"
	Value string `json:"value"`
}

// Key returns the sysctl's key for a link, a path below /proc/sys.
func (s LinkSysctl) Key(link string) string { return s.Dir + "/" + link + "/" + s.Name }

// Values of the sysctl addr_gen_mode (IN6_ADDR_GEN_MODE_ of linux/if_link.h).
const (
	GenModeStable = "2"
	GenModeRandom = "3"
)

// Link is a network interface, as ip-link(8) shows it.
type Link struct {
	Index     int              `json:"index"`
	Name      string           `json:"name"`
	AltNames  []string         `json:"alt_names,omitempty"` // of at most 127 bytes each
	Kind      string           `json:"kind"`                // IFLA_INFO_KIND, such as "bridge"; "device" for a NIC
	Alias     string           `json:"alias,omitempty"`
	MAC       net.HardwareAddr `json:"mac,omitempty"`
	PermMAC   net.HardwareAddr `json:"perm_mac,omitempty"` // of the hardware, whatever MAC the link has; empty without hardware
	MTU       int              `json:"mtu"`                // bytes
	Up        bool             `json:"up"`                 // administratively
	Carrier   bool             `json:"carrier,omitempty"`  // a tap has one while a file is open on it
	Loopback  bool             `json:"loopback,omitempty"`
	Ethernet  bool             `json:"ethernet"`
	Wireless  bool             `json:"wireless,omitempty"`
	Master    int              `json:"master,omitempty"`  // index of the bridge it is a port of, 0: none
	Parent    int              `json:"parent,omitempty"`  // index of the lower link of a macvlan, VLAN and so on, 0: none
	STP       bool             `json:"stp,omitempty"`     // it is a bridge with STP on
	OwnMAC    bool             `json:"own_mac,omitempty"` // it is a macvlan that gets frames of its own MAC alone
	Addresses []netip.Prefix   `json:"addresses,omitempty"`
}

// Route is a route of any table.
type Route struct {
	Dst   netip.Prefix `json:"dst"` // 0.0.0.0/0 or ::/0 for a default route
	Link  string       `json:"link,omitempty"`
	Via   netip.Addr   `json:"via,omitzero"` // the gateway; not valid if there is none
	Table int          `json:"table"`
	// Nowhere is true of a blackhole, unreachable, prohibit or throw route.
	Nowhere bool `json:"nowhere,omitempty"`
	// RA is true of a route that the kernel made of a router advertisement.
	RA bool `json:"ra,omitempty"`
}

// Text returns the route as ip-route(8) lists it.
func (r Route) Text() string {
	text := r.Dst.String()
	if r.Nowhere {
		text += ", which leads nowhere,"
	}
	if r.Via.IsValid() {
		text += " via " + r.Via.String()
	}
	if r.Link != "" {
		text += " dev " + r.Link
	}
	if r.Table != fib.MainTable {
		text += fmt.Sprintf(" table %d", r.Table)
	}
	return text
}

// Link returns the link of that name or alternative name. In the kernel the two share one
// space: no link has as a name what another has as an alternative name.
//
//	ip link show dev NAME
func (f Facts) Link(name string) (Link, bool) {
	for _, l := range f.Links {
		if l.Called(name) {
			return l, true
		}
	}
	return Link{}, false
}

// Called reports whether the link has that name or alternative name.
func (l Link) Called(name string) bool { return l.Name == name || slices.Contains(l.AltNames, name) }

// AllNames returns the name, and the alternative names in parentheses: "up0 (enp2s0)".
func (l Link) AllNames() string {
	if len(l.AltNames) == 0 {
		return l.Name
	}
	return l.Name + " (" + strings.Join(l.AltNames, ", ") + ")"
}

// LinkByIndex returns the link with that index.
func (f Facts) LinkByIndex(index int) (Link, bool) {
	for _, l := range f.Links {
		if l.Index == index {
			return l, true
		}
	}
	return Link{}, false
}

// Ours reports whether the link bears the mark of a network of qnet.
func (l Link) Ours() bool { return strings.HasPrefix(l.Alias, NetworkMark("")) }

// onLAN reports whether the link is a bridge of qnet with the host's own NIC as a port.
// Such a bridge has what the host has on its LAN.
func (f Facts) onLAN(l Link) bool {
	return l.Ours() && l.Kind == "bridge" && slices.ContainsFunc(f.Links, func(port Link) bool {
		return port.Master == l.Index && !port.Ours()
	})
}

// GlobalAddress returns an address of the link that is not link-local.
func (l Link) GlobalAddress() (netip.Prefix, bool) {
	for _, p := range l.Addresses {
		if !p.Addr().IsLinkLocalUnicast() {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// DefaultLink returns the link by which the host's IPv4 packets to the Internet leave. Links
// of qnet do not count, but for a bridge that has the host's own NIC as a port.
func (f Facts) DefaultLink() (Link, bool) {
	for _, w := range f.Ways {
		if l, ok := f.exit(w); ok && !w.IPv6 {
			return l, true
		}
	}
	return Link{}, false
}

// DefaultLink6 is DefaultLink for IPv6.
func (f Facts) DefaultLink6() (Link, bool) {
	for _, w := range f.Ways {
		if l, ok := f.exit(w); ok && w.IPv6 {
			return l, true
		}
	}
	return Link{}, false
}

// LANLink returns the link that a network in mode bridge joins: the link of that name or
// alternative name, or for "" that of the default route. Where a VPN has that, it is the link
// below the VPN; where IPv4 has none, that of IPv6.
func (f Facts) LANLink(uplink string) (Link, bool) {
	if uplink != "" {
		return f.Link(uplink)
	}
	var tunnel Link
	for _, w := range f.Ways {
		l, ok := f.exit(w)
		switch {
		case ok && !l.tunnel():
			return l, true
		case ok && tunnel.Index == 0:
			tunnel = l
		}
	}
	return tunnel, tunnel.Index != 0
}

// Uplinks returns the names of the links by which guests of a nat network leave, that of
// DefaultLink first: those with a default route in any table (or half of one, which VPNs
// use), and all others with an address that is not link-local. Loopbacks, links of qnet,
// ports and other programs' bridges are no uplinks. A bridge of qnet that has the host's own
// NIC as a port counts as that NIC.
func (f Facts) Uplinks() []string {
	shortest := f.routedLinks()
	names := f.namesOf(func(l Link) bool { return f.isUplink(l, shortest) })
	if l, ok := f.DefaultLink(); ok {
		names = slices.DeleteFunc(names, func(name string) bool { return name == l.Name })
		names = slices.Insert(names, 0, l.Name)
	}
	return names
}

func (f Facts) isUplink(l Link, shortest map[string]int) bool {
	_, addressed := l.GlobalAddress()
	bits, routed := shortest[l.Name]
	return routed && bits <= 1 || addressed && (l.Kind != "bridge" || f.onLAN(l))
}

// Beside returns the names of the other links that the host has IPv4 routes by: to a second
// LAN on a bridge, or by a tunnel without an address. Bridges that have VMs alone as ports
// lead nowhere.
func (f Facts) Beside() []string {
	shortest := f.routedLinks()
	return f.namesOf(func(l Link) bool {
		_, routed := shortest[l.Name]
		return routed && !f.isUplink(l, shortest) && (l.Kind != "bridge" || f.leadsOn(l))
	})
}

// leadsOn reports whether a bridge has a port that is more than the end of a VM's NIC. What
// has VMs alone, such as an isolated network of libvirt, leads nowhere.
func (f Facts) leadsOn(bridge Link) bool {
	return slices.ContainsFunc(f.Links, func(port Link) bool {
		return port.Master == bridge.Index && !port.Ours() && port.Kind != "tun" && port.Kind != "tuntap" && port.Kind != "dummy"
	})
}

// routedLinks returns the shortest prefix, in bits, that the IPv4 routes by each link lead to, or
// its default route of IPv6, where ObserveIPv6 has read those.
func (f Facts) routedLinks() map[string]int {
	shortest := make(map[string]int, len(f.Links))
	for _, r := range f.Routes6 {
		if r.Dst.Bits() <= 1 && r.Link != "" {
			shortest[r.Link] = r.Dst.Bits()
		}
	}
	for _, r := range f.Routes {
		if bits, ok := shortest[r.Link]; r.Table != unix.RT_TABLE_LOCAL && r.Link != "" && (!ok || r.Dst.Bits() < bits) {
			shortest[r.Link] = r.Dst.Bits()
		}
	}
	return shortest
}

// namesOf returns the names of the links that may lead outside and that fit.
func (f Facts) namesOf(fits func(Link) bool) []string {
	var names []string
	for _, l := range f.Links {
		if !l.Loopback && (!l.Ours() || f.onLAN(l)) && !f.isPort(l) && fits(l) {
			names = append(names, l.Name)
		}
	}
	return names
}

// DefaultMTU is Ethernet's, in bytes. Guests use it unless DHCP names another.
const DefaultMTU = 1500

// Private are the ranges of RFC 1918, from which subnets are chosen. The addresses that
// carriers share (100.64.0.0/10, RFC 6598) are no candidates: Tailscale and providers use them.
var Private = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
}
