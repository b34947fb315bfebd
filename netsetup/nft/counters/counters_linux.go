// Package counters reads what the rules of a chain have counted.
package counters

import (
	"fmt"

	"github.com/google/nftables"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Read returns what the rules of a chain have counted, in the order of their names'
// first rules, without those that have counted nothing. A chain or table that is gone has
// counted nothing. It needs CAP_NET_ADMIN.
//
//	nft list chain FAMILY TABLE CHAIN
func Read(family nft.Family, table, chain string) ([]nft.Count, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	in := &nftables.Table{Name: table, Family: nftables.TableFamily(nft.NumberOf(family))}
	rules, err := c.GetRules(in, &nftables.Chain{Name: chain, Table: in})
	if err != nil {
		return nil, fmt.Errorf("read counters of table %s %s: %w", family, table, err)
	}
	var counts []nft.Count
	of := map[string]int{}
	for _, r := range rules {
		name, packets := nft.Counted(r)
		if packets == 0 {
			continue
		}
		i, known := of[name]
		if !known {
			i = len(counts)
			of[name], counts = i, append(counts, nft.Count{Of: name})
		}
		counts[i].Packets += packets
	}
	return counts, nil
}
