package forward

import (
	"github.com/qnet-vm/qnet/netsetup/filters"
)

// Barrier is what keeps other machines from a forward.
type Barrier struct {
	Forward Forward
	Why     string         // which program does, and where
	Remedy  filters.Remedy // what to do about that; qnet changes nothing there
}

// Barriers are the programs of the host that keep other machines from forwards: they have the port
// go elsewhere, or drop what is for the host. Other machines come in by the link. byDNAT says
// that Steps are done for the guest, so that only the first counts.
func Barriers(rules filters.Ruleset, link string, byDNAT bool, forwards []Forward) []Barrier {
	var list []Barrier
	for _, f := range forwards {
		if f.Address.IsLoopback() {
			continue
		}
		h := filters.HostPort{Proto: f.Proto, Address: f.Address, Port: f.Port, DNAT: byDNAT && Outside(f)}
		if why, remedy := rules.Barred(link, h); why != "" {
			list = append(list, Barrier{f, why, remedy})
		}
	}
	return list
}
