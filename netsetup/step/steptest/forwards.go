package steptest

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

func forwardKey(f nft.Forwarding, d nft.Destination) string {
	return strings.Join([]string{"forward", f.Table, addressWord(d.Address), d.Proto, strconv.Itoa(int(d.Port))}, " ")
}

func addressWord(a netip.Addr) string {
	if !a.IsValid() {
		return "*"
	}
	return a.String()
}

func (c calls) ListForwards(_ context.Context, f nft.Forwarding) ([]nft.Destination, error) {
	var list []nft.Destination
	c.each("forward "+f.Table+" ", func(rest, value string) {
		var d nft.Destination
		var address, guest string
		if _, err := fmt.Sscan(rest+" "+value, &address, &d.Proto, &d.Port, &guest); err != nil {
			panic(err)
		}
		d.Address, _ = netip.ParseAddr(address) // "*" is zero
		d.Guest = netip.MustParseAddrPort(guest)
		list = append(list, d)
	})
	return list, nil
}

func (c calls) SetForwards(ctx context.Context, f nft.Forwarding, add, del []nft.Destination) error {
	return c.change(ctx, func(state map[string]string) {
		for _, d := range del {
			delete(state, forwardKey(f, d))
		}
		for _, d := range add {
			state[forwardKey(f, d)] = d.Guest.String()
		}
	})
}
