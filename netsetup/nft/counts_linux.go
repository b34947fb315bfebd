package nft

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// Count is how many packets the rules of a chain have matched that count under one name.
type Count struct {
	Of      string `json:"of"` // of Rule.Counts
	Packets uint64 `json:"packets"`
}

// ReadCounts returns what the rules of a chain have counted, in the order of their names'
// first rules, without those that have counted nothing. A chain or table that is gone has
// counted nothing. It needs CAP_NET_ADMIN.
//
//	nft list chain FAMILY TABLE CHAIN
func ReadCounts(family Family, table, chain string) ([]Count, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	in := &nftables.Table{Name: table, Family: nftables.TableFamily(numbers[family])}
	rules, err := c.GetRules(in, &nftables.Chain{Name: chain, Table: in})
	if err != nil {
		return nil, fmt.Errorf("read counters of table %s %s: %w", family, table, err)
	}
	var counts []Count
	of := map[string]int{}
	for _, r := range rules {
		name, packets := counted(r)
		if packets == 0 {
			continue
		}
		i, known := of[name]
		if !known {
			i = len(counts)
			of[name], counts = i, append(counts, Count{Of: name})
		}
		counts[i].Packets += packets
	}
	return counts, nil
}

// counted is what one rule has counted, and its comment.
func counted(r *nftables.Rule) (name string, packets uint64) {
	for _, e := range r.Exprs {
		if counter, ok := e.(*expr.Counter); ok {
			packets = counter.Packets
		}
	}
	name, _ = userdata.GetString(r.UserData, userdata.TypeComment)
	return name, packets
}
