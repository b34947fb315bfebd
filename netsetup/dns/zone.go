package dns

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/answers"
)

// Domain is the domain of VM names, without dots around it.
const Domain = "qnet"

// ttl is how long a client may keep an answer, in seconds, also one that a name does
// not exist. A VM that starts has its name at once, and a VM that is made anew may have
// another address.
const ttl = 5

const (
	apex         = Domain + "."
	reverseApex  = "in-addr.arpa."
	reverseApex6 = "ip6.arpa."
)

// action is what the server does with a message.
type action int

const (
	drop    action = iota
	reply          // send the reply that comes with it
	forward        // to the host's name servers
)

// zone has the names that this server answers itself. It is pure if its functions are.
type zone struct {
	prefix  netip.Prefix // of IPv4; not valid without
	prefix6 netip.Prefix // of IPv6; not valid without
	lookup  func(name string) []netip.Addr
	reverse func(netip.Addr) string
}

// answer decides what to do with a message, and makes the reply if the server has one.
func (z zone) answer(raw []byte, over transport) (action, query, []byte) {
	q, rcode, ok := parse(raw)
	if !ok {
		return drop, q, nil
	}
	if rcode != dnsmessage.RCodeSuccess {
		return reply, q, q.pack(response{rcode: rcode}, over)
	}
	r, ours := z.respond(q)
	if !ours {
		return forward, q, nil
	}
	r.authoritative = true
	return reply, q, q.pack(r, over)
}

// respond answers a question about the zone; ours is false for other questions.
func (z zone) respond(q query) (r response, ours bool) {
	name := answers.Lower(q.question().Name.String())
	host := strings.TrimSuffix(name, ".")
	switch {
	case name == apex:
		return noData(q, apex), true
	case strings.HasSuffix(name, "."+apex):
		return z.host(q, strings.TrimSuffix(host, "."+Domain)), true
	case strings.HasSuffix(name, "."+reverseApex):
		block, exact := reversed(strings.TrimSuffix(name, "."+reverseApex))
		return z.pointer(q, z.prefix, block, exact)
	case strings.HasSuffix(name, "."+reverseApex6):
		block, exact := reversed6(strings.TrimSuffix(name, "."+reverseApex6))
		return z.pointer(q, z.prefix6, block, exact)
	case host != "" && !strings.Contains(host, "."):
		return z.bare(q, host)
	default:
		return response{}, false
	}
}

func (z zone) host(q query, host string) response {
	addrs := z.lookup(host)
	if addrs == nil {
		return noName(apex)
	}
	return addresses(q, addrs, apex)
}

// bare answers for a name without a dot: a VM has it, or it does not exist. Questions of
// resolvers about a top-level domain are forwarded, as dnsmasq's domain-needed does: to
// deny that com has a DS record would deny all names below com.
func (z zone) bare(q query, host string) (r response, ours bool) {
	if addrs := z.lookup(host); addrs != nil {
		return addresses(q, addrs, host+"."), true
	}
	switch q.question().Type {
	case dnsmessage.TypeNS, dnsmessage.TypeSOA, typeDS, typeDNSKEY:
		return response{}, false
	default:
		return response{rcode: dnsmessage.RCodeNameError}, true
	}
}

// addresses answers with the addresses of the family that the query asks for.
func addresses(q query, addrs []netip.Addr, zone string) response {
	var r response
	asked := q.question().Type
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case a.Is4() && (asked == dnsmessage.TypeA || asked == dnsmessage.TypeALL):
			r.answers = append(r.answers, q.record(&dnsmessage.AResource{A: a.As4()}))
		case a.Is6() && (asked == dnsmessage.TypeAAAA || asked == dnsmessage.TypeALL):
			r.answers = append(r.answers, q.record(&dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	if r.answers == nil {
		return noData(q, zone)
	}
	return r
}

// pointer answers for a name below in-addr.arpa or ip6.arpa, that of a block, if its addresses are
// all in the prefix. exact is that of reversed.
func (z zone) pointer(q query, prefix, block netip.Prefix, exact bool) (r response, ours bool) {
	if block.Bits() < prefix.Bits() || !prefix.Contains(block.Addr()) {
		return response{}, false
	}
	zone := reverseZone(prefix, block.Addr())
	if !exact {
		return noName(zone), true // as service discovery's b._dns-sd._udp.0.2.0.10
	}
	if !block.IsSingleIP() {
		return noData(q, zone), true
	}
	host := z.reverse(block.Addr())
	if host == "" {
		return noName(zone), true
	}
	if t := q.question().Type; t != dnsmessage.TypePTR && t != dnsmessage.TypeALL {
		return noData(q, zone), true
	}
	// A name too long becomes the empty one, which cannot be packed: SERVFAIL.
	target, _ := dnsmessage.NewName(host + "." + apex)
	return response{answers: []dnsmessage.Resource{q.record(&dnsmessage.PTRResource{PTR: target})}}, true
}

// reversed reads "4.2.0.10" as 10.0.2.4/32 and "2.0.10" as 10.0.2.0/24. It stops at the
// first label from the right that is no octet; exact reports whether all labels are
// octets.
func reversed(below string) (block netip.Prefix, exact bool) {
	labels := strings.Split(below, ".")
	slices.Reverse(labels)
	var octets [4]byte
	n := 0
	for n < len(labels) && n < len(octets) {
		v, err := strconv.ParseUint(labels[n], 10, 8)
		if err != nil || strconv.FormatUint(v, 10) != labels[n] {
			break
		}
		octets[n] = byte(v)
		n++
	}
	return netip.PrefixFrom(netip.AddrFrom4(octets), 8*n), n == len(labels)
}

// reversed6 reads "1.0.0.2.ip6.arpa" without its end as 2001::/16, a hexadecimal digit a label, as
// reversed does octets (RFC 3596, section 2.5).
func reversed6(below string) (block netip.Prefix, exact bool) {
	labels := strings.Split(below, ".")
	slices.Reverse(labels)
	var b [16]byte
	n := 0
	for n < len(labels) && n < 2*len(b) {
		v, err := strconv.ParseUint(labels[n], 16, 4)
		if err != nil || len(labels[n]) != 1 {
			break
		}
		b[n/2] |= byte(v) << (4 * (1 - n%2))
		n++
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 4*n), n == len(labels)
}

// reverseZone returns the largest zone with the address that is within the prefix.
func reverseZone(prefix netip.Prefix, addr netip.Addr) string {
	if addr.Is6() {
		zone, b := reverseApex6, addr.As16()
		for i := range (prefix.Bits() + 3) / 4 {
			zone = strconv.FormatUint(uint64(b[i/2]>>(4*(1-i%2))&0xf), 16) + "." + zone
		}
		return zone
	}
	octets := addr.As4()
	zone := reverseApex
	for _, o := range octets[:(prefix.Bits()+7)/8] {
		zone = strconv.Itoa(int(o)) + "." + zone
	}
	return zone
}

// noName answers that the name does not exist.
func noName(zone string) response {
	return response{rcode: dnsmessage.RCodeNameError, authorities: []dnsmessage.Resource{soa(zone)}}
}

// noData answers that the name exists but has no record of the type.
func noData(q query, zone string) response {
	if asked := q.question(); asked.Type == dnsmessage.TypeSOA && answers.Lower(asked.Name.String()) == zone {
		return response{answers: []dnsmessage.Resource{soa(zone)}}
	}
	return response{authorities: []dnsmessage.Resource{soa(zone)}}
}

// soa returns the record whose TTL lets a client keep a denial (RFC 2308, 5).
func soa(zone string) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(zone), Class: dnsmessage.ClassINET, TTL: ttl},
		Body: &dnsmessage.SOAResource{
			NS: dnsmessage.MustNewName("host." + apex), MBox: dnsmessage.MustNewName("hostmaster." + apex),
			Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, MinTTL: ttl,
		},
	}
}

// record returns a record of the query's name, in the query's case: a client may use the
// case to tell an answer from a forged one.
func (q query) record(body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: q.question().Name, Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   body,
	}
}
