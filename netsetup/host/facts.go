package host

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/resolved"
)

// Facts is a snapshot of what a plan depends on. It holds no handles and can be
// encoded as JSON.
type Facts struct {
	Links     []Link            `json:"links"`
	Routes    []Route           `json:"routes"` // IPv4, every table
	Rules     []FIBRule         `json:"rules,omitempty"`
	Defined   []Defined         `json:"defined,omitempty"`
	Resolvers []netip.Addr      `json:"resolvers"` // nameserver lines of resolv.conf, and of systemd-resolved's
	Sysctls   map[string]string `json:"sysctls"`   // net.ipv4.ip_forward, and net.ipv4.conf.<link>.forwarding of every link
	HasIPv6   bool              `json:"has_ipv6"`  // /proc/sys/net/ipv6 exists
	NIC       NIC               `json:"nic,omitzero"`
	Firewalld firewalld.State   `json:"firewalld"` // of firewalld.Observe

	// Configurators are the programs of this namespace that configure links.
	Configurators []managers.Program `json:"configurators,omitempty"`
	Filters       filters.Ruleset    `json:"filters"` // of other programs

	Unknown []string `json:"unknown,omitempty"` // what could not be read, for the user
}

// NIC is what more a plan must know of the link that a network in mode bridge joins.
type NIC struct {
	Held     Holdings `json:"held"`
	Conf     []Conf   `json:"conf,omitempty"`     // the link's sysctls that differ from a new link's
	RPFilter string   `json:"rp_filter"`          // of IPv4
	GenMode  string   `json:"gen_mode,omitempty"` // addr_gen_mode; "" where IPv6 is off
	Programs []string `json:"programs,omitempty"` // "an XDP program": what handles its frames

	Client managers.Client   `json:"client,omitzero"` // what configures it
	DNS    resolved.Settings `json:"dns,omitzero"`    // of systemd-resolved

	Asked   bool       `json:"asked,omitempty"`   // AskNeighbours filled in what follows
	Answers []Neighbor `json:"answers,omitempty"` // of the gateways, and of Peer
	Peer    netip.Addr `json:"peer,omitzero"`     // the other end of the session qnet runs in, if that comes in by this NIC
}

// Conf is a sysctl of a link.
type Conf struct {
	Dir   string `json:"dir"`  // "net/ipv4/conf"
	Name  string `json:"name"` // "accept_local"
	Value string `json:"value"`
}

func (c Conf) Key(link string) string { return c.Dir + "/" + link + "/" + c.Name }

// Values of addr_gen_mode (linux/if_link.h).
const (
	GenModeStable = "2"
	GenModeRandom = "3"
)

// Link is a network interface.
type Link struct {
	Index     int              `json:"index"`
	Name      string           `json:"name"`
	Kind      string           `json:"kind"` // IFLA_INFO_KIND; "device" for a NIC
	Alias     string           `json:"alias,omitempty"`
	MAC       net.HardwareAddr `json:"mac,omitempty"`
	MTU       int              `json:"mtu"`
	Up        bool             `json:"up"`                // administratively
	Carrier   bool             `json:"carrier,omitempty"` // of a tap: a file is open on it
	Loopback  bool             `json:"loopback,omitempty"`
	Ethernet  bool             `json:"ethernet"`
	Wireless  bool             `json:"wireless,omitempty"`
	Master    int              `json:"master,omitempty"` // index, 0 = none
	Parent    int              `json:"parent,omitempty"` // index of the lower link of a macvlan, VLAN, ...
	STP       bool             `json:"stp,omitempty"`    // a bridge with STP on
	Addresses []netip.Prefix   `json:"addresses,omitempty"`
}

// Route is an IPv4 route of any table.
type Route struct {
	Dst   netip.Prefix `json:"dst"` // 0.0.0.0/0 for a default route
	Link  string       `json:"link,omitempty"`
	Via   netip.Addr   `json:"via,omitzero"` // the gateway, zero if there is none
	Table int          `json:"table"`
}

// Link finds a link by name.
func (f Facts) Link(name string) (Link, bool) {
	for _, l := range f.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

func (f Facts) LinkByIndex(index int) (Link, bool) {
	for _, l := range f.Links {
		if l.Index == index {
			return l, true
		}
	}
	return Link{}, false
}

// Ours reports whether a link was made by qnet, whichever network it is of.
func (l Link) Ours() bool { return strings.HasPrefix(l.Alias, "qnet:") }

// onLAN reports whether a link is a bridge of qnet's that has the host's own NIC as a
// port, and with it what the host has on its LAN.
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

// DefaultLink returns the link of the default route, the lowest table first
// being the main one as the kernel lists it.
func (f Facts) DefaultLink() (Link, bool) {
	for _, r := range f.Routes {
		if r.Dst.Bits() == 0 && r.Link != "" {
			if l, ok := f.Link(r.Link); ok && (!l.Ours() || f.onLAN(l)) {
				return l, true
			}
		}
	}
	return Link{}, false
}

// LANLink returns the link that a network in mode bridge joins: the one of that
// name, or for "" the one of the default route.
func (f Facts) LANLink(uplink string) (Link, bool) {
	if uplink == "" {
		return f.DefaultLink()
	}
	return f.Link(uplink)
}

// Uplinks returns the links by which guests of a nat network leave: those with
// a default route (or the two halves VPNs use) in any table, and every other
// link with an address of its own, but not qnet's links, loopbacks and other
// programs' bridges. A bridge of qnet's that the host's own NIC is a port of is as
// that NIC was.
func (f Facts) Uplinks() []string {
	wide := map[string]bool{}
	for _, r := range f.Routes {
		if r.Dst.Bits() <= 1 {
			wide[r.Link] = true
		}
	}
	var names []string
	for _, l := range f.Links {
		onLAN := f.onLAN(l)
		if l.Loopback || l.Ours() && !onLAN {
			continue
		}
		_, addressed := l.GlobalAddress()
		if wide[l.Name] || addressed && (l.Kind != "bridge" || onLAN) {
			names = append(names, l.Name)
		}
	}
	return names
}

// DefaultMTU is Ethernet's, in bytes, which guests take for granted.
const DefaultMTU = 1500
