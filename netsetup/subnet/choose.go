// Package subnet chooses the subnets of networks: prefixes of RFC 1918 that nothing on the
// host uses. It is pure.
package subnet

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// avoided are prefixes that a plan chooses last, because many hosts get them later.
var avoided = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/16"),   // home routers, containers' bridges
	netip.MustParsePrefix("10.8.0.0/24"),   // OpenVPN
	netip.MustParsePrefix("10.10.10.0/24"), // home routers
	netip.MustParsePrefix("10.96.0.0/12"),  // Kubernetes
	netip.MustParsePrefix("10.244.0.0/16"),
	// Docker takes 172.17.0.0/16 to 172.31.0.0/16, one after the other, then parts of
	// 192.168.0.0/16.
	netip.MustParsePrefix("172.17.0.0/16"),
	netip.MustParsePrefix("172.18.0.0/15"),
	netip.MustParsePrefix("172.20.0.0/14"),
	netip.MustParsePrefix("172.24.0.0/13"),
	// Home routers and their guests' networks have 0 to 2, 178, 188 and many others of
	// the low ones; libvirt has 121 and 122, VirtualBox 56, Android 42, 43 and 49,
	// Windows 137.
	netip.MustParsePrefix("192.168.0.0/18"),
	netip.MustParsePrefix("192.168.64.0/19"),
	netip.MustParsePrefix("192.168.96.0/21"),
	netip.MustParsePrefix("192.168.121.0/24"),
	netip.MustParsePrefix("192.168.122.0/24"),
	netip.MustParsePrefix("192.168.123.0/24"),
	netip.MustParsePrefix("192.168.124.0/24"),
	netip.MustParsePrefix("192.168.137.0/24"),
	netip.MustParsePrefix("192.168.178.0/23"),
	netip.MustParsePrefix("192.168.188.0/24"),
	netip.MustParsePrefix("192.168.254.0/23"),
}

// Request is what a network asks for.
type Request struct {
	Network    string       // its name
	Bridge     string       // its own, which a crash may have left
	Pinned     netip.Prefix // by the profile; not valid if it leaves the choice to qnet
	Remembered netip.Prefix // of the network's last run; not valid if there was none
	Salt       []byte       // of the host
}

// Choose returns the subnet that the profile pins, if it is free. Else it returns the
// remembered one if that is still free, or the first free one of a sequence that depends on
// the host's salt and the network's name. The error wraps host.ErrRefused, and names what is
// in the way.
func Choose(r Request, f host.Facts) (netip.Prefix, error) {
	if r.Pinned.IsValid() {
		return r.pinned(f)
	}
	if r.Remembered.IsValid() && conflict(r.Remembered, f, r.Bridge) == "" {
		return r.Remembered, nil
	}
	p, ok := r.free(f)
	if !ok {
		return p, r.refuse("every /24 of 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 is in use, by the host's %s: free one, pin a smaller subnet between them with [network.%s] subnet, or use mode = \"user\"",
			inTheWay(host.Private[:], f, r.Bridge), r.Network)
	}
	return p, nil
}

func (r Request) pinned(f host.Facts) (netip.Prefix, error) {
	c := conflict(r.Pinned, f, r.Bridge)
	if c == "" {
		return r.Pinned, nil
	}
	another := "choose another"
	if p, ok := r.free(f); ok {
		another += ", such as " + p.String()
	}
	return netip.Prefix{}, r.refuse("subnet %s overlaps the host's %s: %s, or leave subnet out", r.Pinned, c, another)
}

func (r Request) refuse(format string, args ...any) error {
	return host.Refuse("plan network %q: %s", r.Network, fmt.Sprintf(format, args...))
}

// free returns the first free subnet of the network's sequence, false if there is none.
func (r Request) free(f host.Facts) (netip.Prefix, bool) {
	used := takenIn(host.Private[:], f, r.Bridge)
	for i := range uint32(samples) {
		if p := candidate(r.Salt, r.Network, i); !isAvoided(p) && !used.overlaps(p) {
			return p, true
		}
	}
	for _, last := range []bool{false, true} { // avoided ones last
		for _, in := range host.Private {
			// An odd stride visits every subnet of the range, whose number is a power of two.
			start, stride := hash(r.Salt, r.Network, samples), hash(r.Salt, r.Network, samples+1)|1
			for i := range uint32(1) << (chosenBits - in.Bits()) {
				if p := nth(in, start+i*stride); isAvoided(p) == last && !used.overlaps(p) {
					return p, true
				}
			}
		}
	}
	return netip.Prefix{}, false
}

// chosenBits is the length of the subnets that a plan chooses, in bits.
const chosenBits = 24

// samples is how many subnets of 10.0.0.0/8 a network tries before all others.
const samples = 4096

// candidate is the i-th prefix of the network's sequence, a /24 of 10.0.0.0/8.
func candidate(salt []byte, network string, i uint32) netip.Prefix {
	return nth(host.Private[0], hash(salt, network, i)>>16)
}

// nth returns a /24 of a range, by its number modulo how many there are.
func nth(in netip.Prefix, i uint32) netip.Prefix {
	base := in.Addr().As4()
	n := binary.BigEndian.Uint32(base[:]) | i<<8&^(^uint32(0)<<(32-in.Bits()))
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))), chosenBits)
}

// hash is the i-th number that derives from the salt and the network's name.
func hash(salt []byte, network string, i uint32) uint32 {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte("\x00subnet\x00" + network + "\x00"))
	h.Write(binary.BigEndian.AppendUint32(nil, i))
	return binary.BigEndian.Uint32(h.Sum(nil))
}

func isAvoided(p netip.Prefix) bool {
	return slices.ContainsFunc(avoided, p.Overlaps)
}

// Gateway is the host's address in a subnet: the first that a host may have.
func Gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// Usable reports whether a guest may have the address: it is in the subnet, and is neither
// its network address, its gateway nor its broadcast address.
func Usable(p netip.Prefix, a netip.Addr) bool {
	p = p.Masked()
	return p.Contains(a) && a != p.Addr() && a != Gateway(p) && p.Contains(a.Next())
}
