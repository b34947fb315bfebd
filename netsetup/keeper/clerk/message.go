package clerk

import (
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/profiles"
)

// Network is what a clerk serves.
type Network struct {
	Link    int              `json:"link"` // the bridge's index
	MAC     net.HardwareAddr `json:"mac"`  // the bridge's
	Prefix  netip.Prefix     `json:"prefix"`
	Address netip.Addr       `json:"address"` // the host's in Prefix
	Router  bool             `json:"router,omitempty"`
	Domain  string           `json:"domain,omitempty"` // "" without DNS
	MTU     int              `json:"mtu"`

	// Prefix6 is the network's IPv6 prefix, not valid without; Address6 is the host's in it.
	Prefix6  netip.Prefix `json:"prefix6,omitzero"`
	Address6 netip.Addr   `json:"address6,omitzero"`
	// Router6 tells guests of a default route, while the host has one; order.Router6 changes it.
	Router6 bool `json:"router6,omitempty"`

	// Cautious says that a guest of the network may have a list of names: until the clerk knows whose
	// an address is, names fail there.
	Cautious bool `json:"cautious,omitempty"`

	PXE profiles.PXE `json:"pxe,omitzero"`
}

// limit is which names a VM's NIC gets: of reach.Entry, without their ports.
type limit struct {
	MAC       net.HardwareAddr `json:"mac"`
	Addresses []netip.Addr     `json:"addresses"` // by which the guest asks
	Names     []string         `json:"names,omitempty"`
}

// answer is one that a guest with a limit is about to get.
type answer struct {
	ID        uint64           `json:"id"` // comes back in ruled
	MAC       net.HardwareAddr `json:"mac"`
	Name      string           `json:"name"`
	Addresses []netip.Addr     `json:"addresses"`
	TTL       int64            `json:"ttl"` // seconds
}

// ruled is what becomes of an answer.
type ruled struct {
	ID     uint64     `json:"id"`
	Ruling dns.Ruling `json:"ruling"`
}

// refusal is a name that a guest asked for and does not get.
type refusal struct {
	MAC  net.HardwareAddr `json:"mac"`
	Name string           `json:"name"`
}

// lease is an address of a client: of a VM's NIC that has it reserved, or one that a clerk
// gave.
type lease struct {
	MAC     net.HardwareAddr `json:"mac"`
	Address netip.Addr       `json:"address,omitzero"`
	VM      string           `json:"vm,omitempty"`

	Address6 netip.Addr `json:"address6,omitzero"` // reserved for DHCPv6
	// Seen6 are IPv6 addresses of the network that the guest was seen to use, the newest first.
	Seen6 []netip.Addr `json:"seen6,omitempty"`
}

// order is what the keeper sends to a clerk.
type order struct {
	Serve   *Network           `json:"serve,omitempty"` // the first order: with it come the first of Reserve
	TCP     bool               `json:"tcp,omitempty"`   // Serve: DNS over TCP as well
	DNS6    bool               `json:"dns6,omitempty"`  // Serve: DNS at Address6 as well
	TCP6    bool               `json:"tcp6,omitempty"`  // DNS6: over TCP as well
	Release []net.HardwareAddr `json:"release,omitempty"`
	Reserve []lease            `json:"reserve,omitempty"`
	More    bool               `json:"more,omitempty"` // Serve: further orders with Reserve belong to it
	Leases  bool               `json:"leases,omitempty"`
	Conf    *resolvconf.Conf   `json:"conf,omitempty"`    // the answer to word.Conf
	Router6 *bool              `json:"router6,omitempty"` // of Network, from now on
	Saw     *lease             `json:"saw,omitempty"`     // Seen6 of a NIC, from now on
	Last    bool               `json:"last,omitempty"`    // the network ends: guests learn that over IPv6
	Limit   *limit             `json:"limit,omitempty"`
	Ruled   *ruled             `json:"ruled,omitempty"` // the answer to word.Answer
}

// word is what a clerk sends to the keeper.
type word struct {
	Kept   *lease       `json:"kept,omitempty"` // for the lease file
	Warn   string       `json:"warn,omitempty"`
	Conf   bool         `json:"conf,omitempty"`   // asks for the host's name servers
	Leases []dhcp.Lease `json:"leases,omitempty"` // the answer to order.Leases, in parts
	End    bool         `json:"end,omitempty"`    // of Leases

	Answer  *answer  `json:"answer,omitempty"`
	Refused *refusal `json:"refused,omitempty"`
}

// part bounds the leases of a message.
const part = 128

// call is what the keeper sends to the steward: start a clerk with the files that come with
// it, or end the one that runs.
type call struct {
	Start bool `json:"start,omitempty"`
}

// ended is what the steward sends for each clerk started.
type ended struct {
	How string `json:"how"` // such as "signal: killed"
}

// The descriptors of the steward and of a clerk.
const (
	fdKeeper = 3
	fdDHCP   = 4
	fdLeases = 5
	fdMore   = 6 // and on: those of a clerk's given
	maxGiven = 5
)

// given are the descriptors that a clerk has besides, each only where the network has use for
// it; else 0.
type given struct{ dhcp6, udp, tcp, udp6, tcp6 int }

// given are those that come with the first order.
func (o order) given() (g given) {
	next := fdMore
	for _, x := range []struct {
		comes bool
		fd    *int
	}{
		{o.Serve.Prefix6.IsValid(), &g.dhcp6},
		{o.Serve.Domain != "", &g.udp},
		{o.Serve.Domain != "" && o.TCP, &g.tcp},
		{o.DNS6, &g.udp6},
		{o.DNS6 && o.TCP6, &g.tcp6},
	} {
		if x.comes {
			*x.fd = next
			next++
		}
	}
	return g
}

// pair returns the two ends of a socket that keeps messages apart. The first is for a
// *net.UnixConn, the second for another process.
func pair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "keeper")
	ours, err := connOf(os.NewFile(uintptr(fds[0]), "clerk"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// connOf makes a connection of a file, which it closes.
func connOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, net.UnknownNetworkError(c.LocalAddr().Network())
	}
	return unixConn, nil
}
