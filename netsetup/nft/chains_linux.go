package nft

import (
	"fmt"

	"github.com/google/nftables"
)

// ChainName identifies a chain.
type ChainName struct {
	Family Family
	Table  string
	Chain  string
}

// BaseChains returns the hook of every base chain of every program. It needs
// CAP_NET_ADMIN.
//
//	nft list chains
func BaseChains() (map[ChainName]Hook, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	return listBaseChains(c)
}

func listBaseChains(c *nftables.Conn) (map[ChainName]Hook, error) {
	list, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	hooks := map[ChainName]Hook{}
	for _, ch := range list {
		if ch.Hooknum == nil {
			continue
		}
		family := FamilyOf(byte(ch.Table.Family))
		hooks[ChainName{family, ch.Table.Name, ch.Name}] = HookOf(family, uint32(*ch.Hooknum))
	}
	return hooks, nil
}
