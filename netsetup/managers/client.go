package managers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/sysbus"
)

// DHCP clients that do nothing else and own no name on the system bus.
const (
	Dhclient Program = "dhclient"
	Dhcpcd   Program = "dhcpcd"
	Udhcpc   Program = "udhcpc"
)

// Client is the program that configures a link, and the lease it has on it.
type Client struct {
	Program Program   `json:"program,omitempty"` // "" where the administrator configures it
	Link    string    `json:"link,omitempty"`
	Lease   HostLease `json:"lease,omitzero"`

	// Refusal says why the link cannot become a bridge's port without harm, and
	// what to do about it; "" where it can.
	Refusal string `json:"refusal,omitempty"`
}

// HostLease is the host's own address by DHCP (RFC 2131), and how its client names
// itself to the server. Under another name, the server would give another address.
type HostLease struct {
	Address  netip.Addr       `json:"address"`
	Server   netip.Addr       `json:"server,omitzero"` // zero: not known
	MAC      net.HardwareAddr `json:"mac"`             // chaddr
	ClientID []byte           `json:"client_id,omitempty"`
	Host     string           `json:"host,omitempty"` // option 12
}

// GoesDeaf reports whether the client receives nothing on a bridge's port, so that
// qnet must renew its lease for it. Other clients listen to all protocols with a
// packet socket, and the kernel passes a frame to such a socket before the bridge.
func (c Client) GoesDeaf() bool {
	return c.Lease.Address.IsValid() && (c.Program == NetworkManager || c.Program == Networkd || c.Program == Udhcpc)
}

// errNone says that a program does not configure the link.
var errNone = errors.New("it does not configure the link")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// link is what the kernel says of a link.
type link struct {
	name      string
	index     int
	mac       net.HardwareAddr
	addresses []netlink.Addr // IPv4, global
}

// Observe finds out which program configures a link of the calling thread's network
// namespace. It changes nothing and takes at most 1 s. Without root's rights it may
// learn less about a lease.
func Observe(ctx context.Context, name string) (Client, error) {
	l, err := readLink(name)
	if err != nil {
		return Client{}, err
	}
	within, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, ask := range []func(context.Context, link) (Client, error){
		askNetworkManager, askNetworkd, askConnMan, findClient,
	} {
		c, err := ask(within, l)
		if ctx.Err() != nil {
			return Client{}, fmt.Errorf("find out what configures %q: %w", name, context.Cause(ctx))
		}
		if errors.Is(err, errNone) || sysbus.Absent(err) {
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

func readLink(name string) (link, error) {
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

// defaultID is the client identifier that most clients send: the hardware type 1,
// Ethernet, and the MAC (RFC 2132, 9.14).
func (l link) defaultID() []byte { return append([]byte{1}, l.mac...) }

// hostName returns the host's name without its domain, which clients send as option 12.
func hostName() string {
	name, _ := os.Hostname()
	name, _, _ = strings.Cut(name, ".")
	if name == "localhost" {
		return ""
	}
	return name
}

// Finite reports whether the address has an end. A lifetime of all ones is "forever"
// (if_addr.h, INFINITY_LIFE_TIME).
func Finite(a netlink.Addr) bool { return a.ValidLft != 0 && uint32(a.ValidLft) != 1<<32-1 }

// leased returns the address that most likely is a lease: the first with an end, or
// else the first.
func (l link) leased() netip.Addr {
	list := slices.Clone(l.addresses)
	order.By(list, func(a, b netlink.Addr) int {
		switch {
		case Finite(a) == Finite(b):
			return 0
		case Finite(a):
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

// unknown returns the answer where no program was found. An address with an end has a
// DHCP client all the same, which would receive nothing on a bridge's port.
func (l link) unknown() Client {
	c := Client{Link: l.name}
	for _, a := range l.addresses {
		if Finite(a) {
			c.Refusal = fmt.Sprintf("has the address %s by a lease that ends in %d s, and whose client qnet does not know, so cannot "+
				`renew it for: give the NIC a static address, or use mode = "nat"`, a.IPNet, a.ValidLft)
		}
	}
	return c
}
