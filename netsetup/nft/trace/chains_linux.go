package trace

import (
	"fmt"

	"github.com/google/nftables"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// ChainName identifies a chain.
type ChainName struct {
	Family nft.Family
	Table  string
	Chain  string
}

// BaseChains returns the hook of every base chain of every program. It needs
// CAP_NET_ADMIN.
//
//	nft list chains
func BaseChains() (map[ChainName]nft.Hook, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	return listBaseChains(c)
}

func listBaseChains(c *nftables.Conn) (map[ChainName]nft.Hook, error) {
	list, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	hooks := map[ChainName]nft.Hook{}
	for _, ch := range list {
		if ch.Hooknum == nil {
			continue
		}
		family := nft.FamilyOf(byte(ch.Table.Family))
		hooks[ChainName{family, ch.Table.Name, ch.Name}] = nft.HookOf(family, uint32(*ch.Hooknum))
	}
	return hooks, nil
}
