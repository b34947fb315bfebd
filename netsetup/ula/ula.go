// Package ula chooses the IPv6 prefixes of networks, and the addresses in them: unique local
// ones (RFC 4193), a /48 of the host's and in it a /64 for each network. It is pure.
package ula

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Bits is the length of a network's prefix: guests make addresses of their own in it, which
// needs 64 bits (RFC 4862, section 5.5.3).
const Bits = 64

// Request is what a network asks for.
type Request struct {
	Network    string       // its name
	Bridge     string       // its own, which a crash may have left
	Pinned     netip.Prefix // by the profile; not valid if it leaves the choice to qnet
	Remembered netip.Prefix // of the network's last run; not valid if there was none
	Salt       []byte       // of the host
}

// Choose returns the prefix that the profile pins, if it is free. Else it returns the
// remembered one if that is still free, or the first free one of a sequence that depends on the
// host's salt and the network's name. The error wraps host.ErrRefused, and names what is in the
// way.
func Choose(r Request, f host.Facts) (netip.Prefix, error) {
	if r.Pinned.IsValid() {
		if by := conflict(r.Pinned, f, r.Bridge); by != "" {
			return netip.Prefix{}, host.Refuse("plan network %q: subnet6 %s overlaps the host's %s: choose another, such as %s, or leave subnet6 out",
				r.Network, r.Pinned, by, r.free(f))
		}
		return r.Pinned, nil
	}
	if r.Remembered.Bits() == Bits && conflict(r.Remembered, f, r.Bridge) == "" {
		return r.Remembered, nil
	}
	p := r.free(f)
	if !p.IsValid() {
		return p, host.Refuse("plan network %q: of %d IPv6 prefixes none is free, the last because of the host's %s: pin one with [network.%s] subnet6, or leave ipv6 out",
			r.Network, samples, conflict(r.candidate(samples-1), f, r.Bridge), r.Network)
	}
	return p, nil
}

const (
	// samples is how many prefixes a network tries.
	samples = 4096
	// perHost is after how many of them it tries another /48: a route to all of the host's may
	// be in the way.
	perHost = 64
)

// free returns the first free prefix of the network's sequence, not valid if there is none.
func (r Request) free(f host.Facts) netip.Prefix {
	for i := range uint32(samples) {
		if p := r.candidate(i); conflict(p, f, r.Bridge) == "" {
			return p
		}
	}
	return netip.Prefix{}
}

// candidate is the i-th prefix of the network's sequence: fd, 40 bits that depend on the host's
// salt, and 16 that depend on the network's name as well (RFC 4193, section 3.1).
func (r Request) candidate(i uint32) netip.Prefix {
	b := [16]byte{0xfd}
	copy(b[1:6], r.hash("ula", i/perHost))
	copy(b[6:8], r.hash("ula/"+r.Network, i))
	return netip.PrefixFrom(netip.AddrFrom16(b), Bits)
}

func (r Request) hash(what string, i uint32) []byte {
	h := hmac.New(sha256.New, r.Salt)
	h.Write([]byte(what))
	if i > 0 {
		h.Write(binary.BigEndian.AppendUint32([]byte{0}, i))
	}
	return h.Sum(nil)
}

// aggregate is the longest prefix, in bits, of a route that is in nobody's way: fc00::/7 and
// fd00::/8 stand for what leads nowhere else.
const aggregate = 8

// conflict says what on the host already uses a part of the prefix, "" if nothing does. The
// network's own bridge does not count, nor a wider route to nowhere: the bridge's own goes
// before it.
func conflict(p netip.Prefix, f host.Facts, bridge string) string {
	for _, l := range f.Links {
		for _, a := range l.Addresses {
			if l.Name != bridge && p.Overlaps(a.Masked()) {
				return fmt.Sprintf("address %s on %s", a, l.Name)
			}
		}
	}
	for _, r := range f.Routes6 {
		wide := r.Dst.Bits() <= aggregate || r.Nowhere && r.Dst.Bits() < p.Bits()
		if !wide && (r.Link == "" || r.Link != bridge) && p.Overlaps(r.Dst) {
			return "route " + r.Text()
		}
	}
	for _, a := range f.Resolvers {
		if p.Contains(a) {
			return fmt.Sprintf("nameserver %s of resolv.conf", a)
		}
	}
	return ""
}

// Gateway is the host's address in a prefix: the second, as the first is the anycast address of
// its routers (RFC 4291, section 2.6.1).
func Gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

// Guest is the address that a guest gets by DHCPv6: of the prefix and its IPv4 address. It is
// none that a guest makes itself: those have bits 64 to 95 that are not all zero.
func Guest(p netip.Prefix, a netip.Addr) netip.Addr {
	b, four := p.Masked().Addr().As16(), a.As4()
	copy(b[12:], four[:])
	return netip.AddrFrom16(b)
}

// EUI64 is the address that a guest makes of a prefix and its MAC (RFC 4291, appendix A).
func EUI64(p netip.Prefix, mac net.HardwareAddr) netip.Addr {
	b := p.Masked().Addr().As16()
	copy(b[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(b)
}

// linkLocal is the prefix of addresses of one link (RFC 4291, section 2.5.6).
var linkLocal = netip.MustParsePrefix("fe80::/64")

// LinkLocal is the link-local address that a MAC makes. That of a network's bridge is its
// router's.
func LinkLocal(mac net.HardwareAddr) netip.Addr { return EUI64(linkLocal, mac) }
