package nft

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotOurs is wrapped by errors about a table that has another comment than qnet's.
var ErrNotOurs = errors.New("it does not bear qnet's mark")

// Flags of a table (linux/netfilter/nf_tables.h); x/sys has no names for them.
const (
	flagOwner    = 2 // NFT_TABLE_F_OWNER: no other socket may change the table
	flagPersist  = 4 // NFT_TABLE_F_PERSIST: the table outlives the owner's socket
	attrUserdata = 6 // NFTA_TABLE_USERDATA
	udataTable   = 0 // NFTNL_UDATA_TABLE_COMMENT
)

// Conn is a netlink socket that owns the tables added through it: while it is open, no
// other process can change or flush them, if the kernel knows the owner flag (6.10). When
// it is closed, the tables stay, without an owner.
type Conn struct {
	lib *nftables.Conn
	raw *netlink.Conn
}

// Dial opens the socket in the calling thread's network namespace. To change tables needs
// CAP_NET_ADMIN.
func Dial() (*Conn, error) { return dial() }

func dial(more ...nftables.ConnOption) (*Conn, error) {
	c := &Conn{}
	lib, err := nftables.New(append(more, nftables.AsLasting(), nftables.WithSockOptions(func(raw *netlink.Conn) error {
		c.raw = raw
		return nil
	}))...)
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	c.lib = lib
	return c, nil
}

// Close gives up the ownership of the tables; they stay.
func (c *Conn) Close() error { return c.lib.CloseLasting() }

// Add creates the table with everything in it, and replaces a table of that name with
// the same comment. For a table with another comment the error wraps ErrNotOurs.
//
//	nft -f - <<< "table inet qnet_dev { ... }"
func (c *Conn) Add(t Table) error {
	if err := c.Delete(t.Family, t.Name, t.Comment); err != nil {
		return err
	}
	if err := c.newTable(t, netlink.Excl); err != nil {
		return fmt.Errorf("add table %s %s: %w", t.Family, t.Name, err)
	}
	table := &nftables.Table{Name: t.Name, Family: nftables.TableFamily(numbers[t.Family])}
	if err := c.fill(table, t); err != nil {
		return fmt.Errorf("add table %s %s: %w", t.Family, t.Name, err)
	}
	return nil
}

// Adopt becomes the owner of a table that has lost its owner. The table's rules hold all
// the time. Adopt adds a table that is missing.
func (c *Conn) Adopt(t Table) error {
	there, err := c.Has(t.Family, t.Name, t.Comment)
	if err != nil {
		return err
	}
	if !there {
		return c.Add(t)
	}
	if err := c.newTable(t, 0); err != nil {
		return fmt.Errorf("adopt table %s %s: %w", t.Family, t.Name, err)
	}
	return nil
}

// Has reports whether there is a table of that name with the comment.
func (c *Conn) Has(family Family, name, comment string) (bool, error) {
	got, ok, err := c.comment(family, name)
	return ok && got == comment, err
}

// Marked returns the tables, without what is in them, whose comment is the mark or begins with
// it and a slash.
//
//	nft list tables
func (c *Conn) Marked(mark string) ([]Table, error) {
	msgs, err := c.raw.Execute(netlink.Message{
		Header: netlink.Header{Type: msgType(unix.NFT_MSG_GETTABLE), Flags: netlink.Request | netlink.Dump},
		Data:   genHeader(unix.NFPROTO_UNSPEC, 0),
	})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	var list []Table
	for _, m := range msgs {
		if len(m.Data) <= 4 {
			continue
		}
		t := Table{Family: FamilyOf(m.Data[0]), Name: tableName(m.Data[4:]), Comment: tableComment(m.Data[4:])}
		if t.Comment == mark || strings.HasPrefix(t.Comment, mark+"/") {
			list = append(list, t)
		}
	}
	return list, nil
}

func tableName(data []byte) string {
	attrs, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return ""
	}
	for _, a := range attrs {
		if a.Type == unix.NFTA_TABLE_NAME {
			return unix.ByteSliceToString(a.Data)
		}
	}
	return ""
}

func (c *Conn) fill(table *nftables.Table, t Table) error {
	sets := map[string]*nftables.Set{}
	for _, s := range t.Sets {
		if s.IPv6 {
			if err := c.addAddressSet(table, s); err != nil {
				return fmt.Errorf("set %s: %w", s.Name, err)
			}
			continue
		}
		// The byte order is only a hint to nft(8), which lists names reversed without it.
		set := &nftables.Set{Table: table, Name: s.Name, KeyType: s.keyType(), KeyByteOrder: binaryutil.NativeEndian}
		if s.Of != "" {
			set.Interval, set.HasTimeout, set.KeyByteOrder = !s.Timeout, s.Timeout, binaryutil.BigEndian
		}
		if err := c.lib.AddSet(set, s.elements()); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
		sets[s.Name] = set
	}
	for _, ch := range t.Chains {
		chain := c.lib.AddChain(baseChain(table, ch))
		for _, r := range ch.Rules {
			exprs, err := c.ruleExprs(table, r, sets)
			if err != nil {
				return fmt.Errorf("rule %q: %w", r, err)
			}
			rule := &nftables.Rule{Table: table, Chain: chain, Exprs: exprs}
			if r.Counts != "" {
				rule.UserData = userdata.AppendString(nil, userdata.TypeComment, r.Counts)
			}
			c.lib.AddRule(rule)
		}
	}
	return c.lib.Flush()
}

// SetElements makes a set of a table added through this Conn hold the links or prefixes of want
// and no others, in one transaction.
//
//	nft flush set inet qnet_dev newly_forwarded
//	nft add element inet qnet_dev newly_forwarded { "eth1" }
func (c *Conn) SetElements(family Family, table string, want Set) error {
	s := &nftables.Set{
		Table: &nftables.Table{Name: table, Family: nftables.TableFamily(numbers[family])}, Name: want.Name, KeyType: want.keyType(), Interval: want.Of != "",
	}
	c.lib.FlushSet(s)
	err := c.lib.SetAddElements(s, want.elements())
	if err == nil {
		err = c.lib.Flush()
	}
	if err != nil {
		return fmt.Errorf("make set %s hold %v: %w", want.Name, append([]any{want.Links}, want.Prefixes), err)
	}
	return nil
}

// Delete removes the table if it has the comment. It does nothing if there is no such
// table. For a table with another comment the error wraps ErrNotOurs.
//
//	nft delete table inet qnet_dev
func (c *Conn) Delete(family Family, name, comment string) error {
	got, ok, err := c.comment(family, name)
	if err != nil || !ok {
		return err
	}
	if got != comment {
		return fmt.Errorf("table %s %s (comment %q): %w", family, name, got, ErrNotOurs)
	}
	c.lib.DelTable(&nftables.Table{Name: name, Family: nftables.TableFamily(numbers[family])})
	if err := c.lib.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete table %s %s: %w", family, name, err)
	}
	return nil
}

// newTable sends NEWTABLE itself, because the library sends neither flags nor comment. A
// kernel without owner and persist (before 6.10) gets a plain table: with owner alone, the
// rules would go when the keeper dies.
func (c *Conn) newTable(t Table, exclusive netlink.HeaderFlags) error {
	err := c.sendTable(t, flagOwner|flagPersist, exclusive)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return c.sendTable(t, 0, exclusive)
	}
	return err
}

func (c *Conn) sendTable(t Table, flags uint32, exclusive netlink.HeaderFlags) error {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(flags)},
		{Type: attrUserdata, Data: userdata.AppendString(nil, udataTable, t.Comment)},
	})
	if err != nil {
		return err
	}
	return c.transact(netlink.Message{
		Header: netlink.Header{
			Type:  msgType(unix.NFT_MSG_NEWTABLE),
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | exclusive,
		},
		Data: append(genHeader(numbers[t.Family], 0), attrs...),
	})
}

// comment reads the comment of a table; ok reports whether the table exists.
func (c *Conn) comment(family Family, name string) (comment string, ok bool, err error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(name + "\x00")},
	})
	if err != nil {
		return "", false, err
	}
	msgs, err := c.raw.Execute(netlink.Message{
		Header: netlink.Header{Type: msgType(unix.NFT_MSG_GETTABLE), Flags: netlink.Request},
		Data:   append(genHeader(numbers[family], 0), attrs...),
	})
	if errors.Is(err, unix.ENOENT) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read table %s %s: %w", family, name, err)
	}
	for _, m := range msgs {
		if len(m.Data) > 4 {
			return tableComment(m.Data[4:]), true, nil
		}
	}
	return "", true, nil
}

func tableComment(data []byte) string {
	attrs, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return ""
	}
	for _, a := range attrs {
		if a.Type == attrUserdata {
			s, _ := userdata.GetString(a.Data, udataTable)
			return strings.TrimRight(s, "\x00")
		}
	}
	return ""
}

func msgType(t uint16) netlink.HeaderType {
	return netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | t)
}

func batch(t uint16) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(t), Flags: netlink.Request},
		Data:   genHeader(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES),
	}
}

// genHeader is struct nfgenmsg.
func genHeader(family byte, resource uint16) []byte {
	return append([]byte{family, unix.NFNETLINK_V0}, binaryutil.BigEndian.PutUint16(resource)...)
}
