package nft

import (
	"fmt"

	"github.com/google/nftables"
)

// ChainName is where a chain is.
type ChainName struct {
	Family Family
	Table  string
	Chain  string
}

// hookNames are by the numbers of linux/netfilter.h, NF_INET_*, which the bridge
// family shares.
var hookNames = []Hook{Prerouting, Input, Forward, Output, Postrouting, Ingress}

// BaseChains tells the hook of every base chain of every program. It needs
// CAP_NET_ADMIN.
//
//	nft list chains
func BaseChains() (map[ChainName]Hook, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	list, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	hooks := map[ChainName]Hook{}
	for _, ch := range list {
		if ch.Hooknum == nil {
			continue
		}
		hook := Ingress
		if family := traceFamilies[byte(ch.Table.Family)]; family != NetDev && int(*ch.Hooknum) < len(hookNames) {
			hook = hookNames[*ch.Hooknum]
		}
		hooks[ChainName{traceFamilies[byte(ch.Table.Family)], ch.Table.Name, ch.Name}] = hook
	}
	return hooks, nil
}
