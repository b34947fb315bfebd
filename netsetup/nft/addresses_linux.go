package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// typeOf tells nft(8) that the elements of a set are what NDTarget is: "typeof @th,64,128". It is
// what nft itself stores (struct expr_ops of libnftables: a payload expression, its base, and its
// offset and length in bits).
func typeOf() []byte {
	number := userdata.AppendUint32
	payload := number(number(number(number(number(nil, 0, 0), 1, 0), 2, 3), 3, 64), 4, 128)
	return userdata.Append(number(nil, 0, 7), 1, payload)
}

// integer is the type of a set that typeOf describes (TYPE_INTEGER of libnftables).
const integer = 4

// addressSet is a set of IPv6 addresses as the library takes it.
func addressSet(table *nftables.Table, name string) *nftables.Set {
	kind := nftables.TypeInteger
	kind.Bytes = 16
	return &nftables.Set{Table: table, Name: name, KeyType: kind}
}

// addAddressSet sends NEWSET itself, because the library sends no typeof.
func (c *Conn) addAddressSet(table *nftables.Table, s Set) error {
	u32 := binaryutil.BigEndian.PutUint32
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_SET_TABLE, Data: []byte(table.Name + "\x00")},
		{Type: unix.NFTA_SET_NAME, Data: []byte(s.Name + "\x00")},
		{Type: unix.NFTA_SET_FLAGS, Data: u32(0)},
		{Type: unix.NFTA_SET_KEY_TYPE, Data: u32(integer)},
		{Type: unix.NFTA_SET_KEY_LEN, Data: u32(16)},
		{Type: unix.NFTA_SET_ID, Data: u32(1)},
		{Type: unix.NFTA_SET_USERDATA, Data: userdata.Append(
			userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, 2), userdata.NFTNL_UDATA_SET_KEY_TYPEOF, typeOf())},
	})
	if err != nil {
		return err
	}
	err = c.transact(netlink.Message{
		Header: netlink.Header{Type: msgType(unix.NFT_MSG_NEWSET), Flags: netlink.Request | netlink.Acknowledge | netlink.Create},
		Data:   append(genHeader(byte(table.Family), 0), attrs...),
	})
	if err != nil {
		return err
	}
	return c.lib.SetAddElements(addressSet(table, s.Name), addressElements(s.Addresses))
}

// transact sends a message as a batch of its own.
func (c *Conn) transact(m netlink.Message) error {
	if _, err := c.raw.SendMessages([]netlink.Message{batch(unix.NFNL_MSG_BATCH_BEGIN), m, batch(unix.NFNL_MSG_BATCH_END)}); err != nil {
		return err
	}
	_, err := c.raw.Receive()
	return err
}

func addressElements(list []netip.Addr) []nftables.SetElement {
	var es []nftables.SetElement
	for _, a := range list {
		es = append(es, nftables.SetElement{Key: a.AsSlice()})
	}
	return es
}

// SetAddresses adds addresses to a set of a table added or adopted through this Conn, and removes
// others, in one transaction. It is an error if one of those to remove is not there.
//
//	nft add element netdev TABLE own6 { 0x... }; nft delete element netdev TABLE own6 { 0x... }
func (c *Conn) SetAddresses(family Family, table, set string, add, remove []netip.Addr) error {
	s := addressSet(&nftables.Table{Name: table, Family: nftables.TableFamily(numbers[family])}, set)
	err := c.lib.SetDeleteElements(s, addressElements(remove))
	if err == nil {
		err = c.lib.SetAddElements(s, addressElements(add))
	}
	if err == nil {
		err = c.lib.Flush()
	}
	if err != nil {
		return fmt.Errorf("change set %s of table %s: %w", set, table, err)
	}
	return nil
}

// Addresses lists the addresses in a set, none where there is no such set.
//
//	nft list set netdev TABLE own6
func (c *Conn) Addresses(family Family, table, set string) ([]netip.Addr, error) {
	es, err := c.lib.GetSetElements(addressSet(&nftables.Table{Name: table, Family: nftables.TableFamily(numbers[family])}, set))
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list set %s of table %s: %w", set, table, err)
	}
	var list []netip.Addr
	for _, e := range es {
		if a, ok := netip.AddrFromSlice(e.Key); ok {
			list = append(list, a)
		}
	}
	return list, nil
}
