package managers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
)

// DHCP clients that do nothing else, and tell nobody over D-Bus.
const (
	Dhclient Program = "dhclient"
	Dhcpcd   Program = "dhcpcd"
	Udhcpc   Program = "udhcpc"
)

// Client is what configures a link, and the lease it has on it.
type Client struct {
	Program Program `json:"program,omitempty"` // "" is nobody: the administrator did
	Link    string  `json:"link,omitempty"`
	Lease   Lease   `json:"lease,omitzero"`

	// Refusal says why the link cannot become a bridge's port without harm, and
	// what to do about it; "" where it can.
	Refusal string `json:"refusal,omitempty"`
}

// Lease is an address by DHCP (RFC 2131), and how its client names itself to the
// server: with another name, the server would give another address.
type Lease struct {
	Address  netip.Addr       `json:"address"`
	Server   netip.Addr       `json:"server,omitzero"` // zero: not known
	MAC      net.HardwareAddr `json:"mac"`             // chaddr
	ClientID []byte           `json:"client_id,omitempty"`
	Host     string           `json:"host,omitempty"` // option 12
}

// GoesDeaf reports whether the client hears no answer on a bridge's port, so that
// its lease must be renewed for it. The others listen to all protocols, which a
// packet socket gets to hear before the bridge takes the frame.
func (c Client) GoesDeaf() bool {
	return c.Lease.Address.IsValid() && (c.Program == NetworkManager || c.Program == Networkd || c.Program == Udhcpc)
}

// errNone tells that a program does not configure the link.
var errNone = errors.New("it does not configure the link")

// link is what is known of a link before anybody is asked.
type link struct {
	name      string
	index     int
	mac       net.HardwareAddr
	addresses []netlink.Addr // IPv4, global
}

// Observe finds out what configures a link of the calling thread's network
// namespace. It changes nothing; without root's rights it may know less of a lease.
func Observe(name string) (Client, error) {
	l, err := look(name)
	if err != nil {
		return Client{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	for _, ask := range []func(context.Context, link) (Client, error){
		askNetworkManager, askNetworkd, askConnMan, findClient,
	} {
		c, err := ask(ctx, l)
		if errors.Is(err, errNone) || errors.Is(err, errNoBus) {
			continue
		}
		c.Link = name
		if err != nil {
			c.Refusal = fmt.Sprintf("is configured by %s, which does not tell how: %v", c.Program, err)
		}
		return c, nil
	}
	return l.unknown(), nil
}

func look(name string) (link, error) {
	n, list, err := Addresses(name)
	if err != nil {
		return link{}, err
	}
	list = slices.DeleteFunc(list, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_SECONDARY != 0 })
	return link{name: name, index: n.Attrs().Index, mac: n.Attrs().HardwareAddr, addresses: list}, nil
}

// Addresses lists a link's IPv4 addresses of global scope.
//
//	ip -4 addr show dev LINK scope global
func Addresses(name string) (netlink.Link, []netlink.Addr, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read link %q: %w", name, err)
	}
	list, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_V4) })
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses of %q: %w", name, err)
	}
	return l, slices.DeleteFunc(list, func(a netlink.Addr) bool { return a.Scope != unix.RT_SCOPE_UNIVERSE }), nil
}

// finite reports whether an address ends by itself. A value of all ones is
// "forever" (if_addr.h, INFINITY_LIFE_TIME).
func finite(a netlink.Addr) bool { return a.ValidLft != 0 && uint32(a.ValidLft) != 1<<32-1 }

// leased is the address that most likely is a lease: one that ends by itself, or else
// the first.
func (l link) leased() netip.Addr {
	list := slices.Clone(l.addresses)
	slices.SortStableFunc(list, func(a, b netlink.Addr) int {
		switch {
		case finite(a) == finite(b):
			return 0
		case finite(a):
			return -1
		}
		return 1
	})
	if len(list) == 0 {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(list[0].IP)
	return a.Unmap()
}

// unknown is the answer where nobody was found. An address that ends by itself has
// a client somewhere, and that would be left deaf.
func (l link) unknown() Client {
	c := Client{Link: l.name}
	for _, a := range l.addresses {
		if finite(a) {
			c.Refusal = fmt.Sprintf("has the address %s by a lease that ends in %d s, and whose client qnet does not know, so cannot "+
				`renew it for: give the NIC a static address, or use mode = "nat"`, a.IPNet, a.ValidLft)
		}
	}
	return c
}
