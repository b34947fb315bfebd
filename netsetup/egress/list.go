package egress

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// family is one of IP's, as rules and sets have it.
type family struct {
	digit   string // of the names of sets
	of      nft.Family
	version nft.Match
	dest    nft.Field
	echo    []nft.Match // what asks for an echo
}

var families = []family{
	{"4", nft.IP, nft.Is(nft.IPVersion, "ipv4"), nft.IPDest, []nft.Match{nft.Is(nft.Transport, "icmp"), nft.Is(nft.ICMPType, "8")}},
	{"6", nft.IP6, nft.Is(nft.IPVersion, "ipv6"), nft.IP6Dest, []nft.Match{nft.Is(nft.Transport, "ipv6-icmp"), nft.Is(nft.ICMPv6Type, "128")}},
}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return families[0]
	}
	return families[1]
}

// in matches what is for an address of the set.
func (f family) in(set string) []nft.Match { return []nft.Match{f.version, nft.Is(f.dest, "@"+set)} }

// Sets of prefixes.
const (
	denied  = "denied"
	allowed = "allowed"
)

// fed is the name of the set of addresses that names with this port have, as DNS tells.
func fed(f family, e reach.Entry) string {
	name := "names" + f.digit
	if e.Port != 0 {
		name += "_" + strconv.Itoa(int(e.Port))
	}
	if e.Proto != "" {
		name += "_" + e.Proto
	}
	return name
}

// ports are the names' ports of the list, each once, in its order.
func ports(p reach.Policy) []reach.Entry {
	var list []reach.Entry
	for _, e := range p.Entries {
		port := reach.Entry{Port: e.Port, Proto: e.Proto}
		if e.Name != "" && !slices.Contains(list, port) {
			list = append(list, port)
		}
	}
	return list
}

// whole are the prefixes of a family that are denied, or that are allowed at every port.
func whole(p reach.Policy, f family, deny bool) []netip.Prefix {
	var list []netip.Prefix
	for _, e := range p.Entries {
		if e.Prefix.IsValid() && e.Port == 0 && e.Deny == deny && familyOf(e.Prefix.Addr()).of == f.of {
			list = append(list, e.Prefix)
		}
	}
	return merge(list)
}

// listSets are those of a guest with a list.
func (p Port) listSets() []nft.Set {
	if !p.Policy.Listed {
		return nil
	}
	var sets []nft.Set
	for _, f := range families {
		sets = append(sets,
			nft.Set{Name: denied + f.digit, Of: f.of, Prefixes: whole(p.Policy, f, true)},
			nft.Set{Name: allowed + f.digit, Of: f.of, Prefixes: whole(p.Policy, f, false)})
		for _, e := range ports(p.Policy) {
			// Never one of ranges: the kernel takes much longer for each address there.
			sets = append(sets, nft.Set{Name: fed(f, e), Of: f.of, Timeout: true})
		}
	}
	return sets
}

// listRules let the guest reach what is on its list, but for what is denied.
func (p Port) listRules() []nft.Rule {
	var rules []nft.Rule
	for _, f := range families {
		if p.Policy.NoLAN {
			rules = append(rules, refuse(ToLAN, f.in("lan"+f.digit)...)...)
		}
		rules = append(rules, refuse(ToDenied, f.in(denied+f.digit)...)...)
	}
	for _, f := range families {
		rules = append(rules, accept(f.in(allowed+f.digit)...))
		for _, e := range ports(p.Policy) {
			rules = append(rules, nameRules(f, e)...)
		}
	}
	for _, e := range p.Policy.Entries {
		if e.Prefix.IsValid() && e.Port != 0 {
			rules = append(rules, nft.Rule{Dest: e.Prefix, Frame: at(e), Do: nft.Accept})
		}
	}
	return append(rules, refuse(ToOthers)...)
}

// nameRules let TCP and UDP pass to the addresses of names, and without a port the request for an
// echo: no other protocol, by which a guest might talk to what shares the address.
func nameRules(f family, e reach.Entry) []nft.Rule {
	set := f.in(fed(f, e))
	if e.Port != 0 {
		return []nft.Rule{accept(append(set, at(e)...)...)}
	}
	return []nft.Rule{
		accept(append(slices.Clip(set), nft.Is(nft.Transport, "tcp", "udp"))...),
		accept(append(slices.Clip(set), f.echo...)...),
	}
}

// at matches the port of an entry that has one.
func at(e reach.Entry) []nft.Match {
	protos := []string{"tcp", "udp"}
	if e.Proto != "" {
		protos = []string{e.Proto}
	}
	return []nft.Match{nft.Is(nft.Transport, protos...), nft.Is(nft.DestPort, strconv.Itoa(int(e.Port)))}
}

// How long an address passes behind the answer that has it: its TTL, which is no less than leastTTL
// here, and grace, because programs keep addresses longer than they may.
const (
	leastTTL = 60 * time.Second
	mostTTL  = 24 * time.Hour
	grace    = 300 * time.Second
)

// Fed are the elements by which addresses of a name pass that the entries allow.
func Fed(entries []reach.Entry, addresses []netip.Addr, ttl time.Duration) []nft.Passing {
	var list []nft.Passing
	until := min(max(ttl, leastTTL), mostTTL) + grace
	for _, a := range addresses {
		for _, e := range entries {
			p := nft.Passing{Set: fed(familyOf(a), e), Address: a, For: until}
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	return list
}

// HasList reports whether the table is that of a guest with a list.
func HasList(t nft.Table) bool {
	return slices.ContainsFunc(t.Sets, func(s nft.Set) bool { return s.Name == denied+"4" })
}
