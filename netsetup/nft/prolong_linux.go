package nft

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
)

// Passing is an address that a Set with Timeout holds for a time.
type Passing struct {
	Set     string
	Address netip.Addr
	For     time.Duration // from now on
}

// Prolong makes sets of an inet table that was added through this Conn hold the addresses, in one
// transaction. The kernel has them when it returns.
//
// Kernels before 6.12 keep the time of an element that is added again. So each is deleted before;
// and added before that, because an element that has expired cannot be deleted.
//
//	nft add element inet TABLE SET '{ ADDRESS }'; nft delete element inet TABLE SET '{ ADDRESS }'
//	nft add element inet TABLE SET '{ ADDRESS timeout FOR }'
func (c *Conn) Prolong(table string, list []Passing) error {
	for _, p := range list {
		s := &nftables.Set{Table: &nftables.Table{Name: table, Family: nftables.TableFamilyINet}, Name: p.Set, HasTimeout: true}
		s.KeyType = nftables.TypeIPAddr
		if p.Address.Is6() {
			s.KeyType = nftables.TypeIP6Addr
		}
		key := p.Address.AsSlice()
		err := c.lib.SetAddElements(s, []nftables.SetElement{{Key: key, Timeout: p.For}})
		if err == nil {
			err = c.lib.SetDeleteElements(s, []nftables.SetElement{{Key: key}})
		}
		if err == nil {
			err = c.lib.SetAddElements(s, []nftables.SetElement{{Key: key, Timeout: p.For}})
		}
		if err != nil {
			return fmt.Errorf("add addresses to table inet %s: %w", table, err)
		}
	}
	if err := c.lib.Flush(); err != nil {
		return fmt.Errorf("add addresses to table inet %s: %w", table, err)
	}
	return nil
}
