package read

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// source is the nftables half of a snapshot being read.
type source struct {
	conn  *netlink.Conn
	links map[uint32]string // read when asked for
	sets  map[setKey]*set
}

type setKey struct {
	family byte
	table  string
	set    string
}

type tableKey struct {
	family byte
	name   string
}

// currentGeneration numbers the states of nftables: it grows with each transaction.
//
//	nft monitor, "new generation"
func currentGeneration() (uint32, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, fmt.Errorf("read nftables: %w", err)
	}
	defer conn.Close() //nolint:errcheck // nothing follows from it
	return generation(conn)
}

func generation(conn *netlink.Conn) (uint32, error) {
	msgs, err := conn.Execute(message(unix.NFT_MSG_GETGEN, 0, netlink.Request, nil))
	if err != nil {
		return 0, fmt.Errorf("read nftables: %w", err)
	}
	for _, m := range msgs {
		for _, a := range attributes(m.Data) {
			if a.Type == unix.NFTA_GEN_ID && len(a.Data) == 4 {
				return binary.BigEndian.Uint32(a.Data), nil
			}
		}
	}
	return 0, errors.New("read nftables: no generation in the kernel's answer")
}

// readTables reads the tables of others; those of others cannot change between
// two dumps of one generation.
func readTables() ([]filters.Table, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("read nftables: %w", err)
	}
	defer conn.Close()          //nolint:errcheck // nothing follows from it
	conn.SetReadBuffer(4 << 20) //nolint:errcheck // only the speed follows from it
	s := &source{conn: conn}
	for tries := 0; ; tries++ {
		before, err := generation(conn)
		if err != nil {
			return nil, err
		}
		tables, err := s.tables()
		after, genErr := generation(conn)
		if err == nil && genErr == nil && before == after {
			return tables, nil
		}
		if tries == 20 {
			return nil, errors.Join(err, genErr, errors.New("read nftables: it changes all the time"))
		}
	}
}

func (s *source) tables() ([]filters.Table, error) {
	s.sets = map[setKey]*set{}
	msgs, err := s.dump(unix.NFT_MSG_GETTABLE, 0, nil)
	if err != nil {
		return nil, err
	}
	var list []filters.Table
	index := map[tableKey]int{}
	for _, m := range msgs {
		name, comment := tableOf(m.Data)
		family := nft.FamilyOf(m.Data[0])
		if family == "" || family == nft.ARP || strings.HasPrefix(name, "qnet_") && strings.HasPrefix(comment, "qnet:") {
			continue
		}
		index[tableKey{m.Data[0], name}] = len(list)
		list = append(list, filters.Table{Engine: filters.NFTables, Family: family, Name: name})
	}
	if len(list) == 0 {
		return nil, nil
	}
	if err := s.chains(list, index); err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Engine = engineOf(&list[i])
	}
	return list, s.rules(list, index)
}

// linkNames are the links by their number.
func (s *source) linkNames() map[uint32]string {
	if s.links != nil {
		return s.links
	}
	s.links = map[uint32]string{}
	list, _ := net.Interfaces() // without them, such a rule matches nothing
	for _, l := range list {
		s.links[uint32(l.Index)] = l.Name
	}
	return s.links
}

func tableOf(data []byte) (name, comment string) {
	for _, a := range attributes(data) {
		switch a.Type {
		case unix.NFTA_TABLE_NAME:
			name = text(a.Data)
		case 6: // NFTA_TABLE_USERDATA
			comment, _ = userdata.GetString(a.Data, 0)
		}
	}
	return name, strings.TrimRight(comment, "\x00")
}

func (s *source) chains(list []filters.Table, index map[tableKey]int) error {
	msgs, err := s.dump(unix.NFT_MSG_GETCHAIN, 0, nil)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		c := filters.Chain{}
		key := tableKey{family: m.Data[0]}
		for _, a := range attributes(m.Data) {
			switch a.Type {
			case unix.NFTA_CHAIN_TABLE:
				key.name = text(a.Data)
			case unix.NFTA_CHAIN_NAME:
				c.Name = text(a.Data)
			case unix.NFTA_CHAIN_TYPE:
				c.Type = text(a.Data)
			case unix.NFTA_CHAIN_POLICY:
				c.Policy = pick(number(a.Data) == 0, filters.Discard, filters.Accept) // NF_DROP
			case unix.NFTA_CHAIN_HOOK:
				decodeHook(&c, key.family, a.Data)
			}
		}
		if i, ok := index[key]; ok {
			list[i].Chains = append(list[i].Chains, c)
		}
	}
	return nil
}

const (
	hookNum  = 1 // NFTA_HOOK_HOOKNUM
	hookPrio = 2
	hookDev  = 3
	hookDevs = 4 // NFTA_HOOK_DEVS: several NFTA_DEVICE_NAME
)

func decodeHook(c *filters.Chain, family byte, data []byte) {
	for _, a := range nested(data) {
		switch a.Type {
		case hookNum:
			c.Hook = nft.HookOf(nft.FamilyOf(family), number(a.Data))
		case hookPrio:
			c.Priority = int(int32(number(a.Data)))
		case hookDev:
			c.Devices = append(c.Devices, text(a.Data))
		case hookDevs:
			for _, d := range nested(a.Data) {
				if name := text(d.Data); !slices.Contains(c.Devices, name) {
					c.Devices = append(c.Devices, name)
				}
			}
		}
	}
}

func (s *source) rules(list []filters.Table, index map[tableKey]int) error {
	msgs, err := s.dump(unix.NFT_MSG_GETRULE, 0, nil)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		key := tableKey{family: m.Data[0]}
		var chain string
		var exprs, user []byte
		var handle uint64
		for _, a := range attributes(m.Data) {
			switch a.Type {
			case unix.NFTA_RULE_TABLE:
				key.name = text(a.Data)
			case unix.NFTA_RULE_CHAIN:
				chain = text(a.Data)
			case unix.NFTA_RULE_HANDLE:
				handle = binary.BigEndian.Uint64(a.Data)
			case unix.NFTA_RULE_EXPRESSIONS:
				exprs = a.Data
			case unix.NFTA_RULE_USERDATA:
				user = a.Data
			}
		}
		i, ok := index[key]
		if !ok {
			continue
		}
		c := list[i].Chain(chain)
		if c == nil {
			continue
		}
		rules, err := s.decodeRule(key, &list[i], chain, exprs, user)
		if err != nil {
			return err
		}
		for i := range rules {
			rules[i].Handle = handle
		}
		c.Rules = append(c.Rules, rules...)
	}
	return nil
}

// engineOf tells the tables of iptables-nft and ebtables-nft, which have fixed
// names of tables and base chains, from those that nft(8) made.
func engineOf(t *filters.Table) filters.Engine {
	if !slices.Contains([]string{"filter", "nat", "mangle", "raw", "security", "broute"}, t.Name) {
		return filters.NFTables
	}
	upper := false
	for _, c := range t.Chains {
		if c.Hook == "" {
			continue
		}
		if c.Name != strings.ToUpper(string(c.Hook)) {
			return filters.NFTables
		}
		upper = true
	}
	switch {
	case !upper:
		return filters.NFTables
	case t.Family == nft.IP || t.Family == nft.IP6:
		return filters.IPTablesNFT
	case t.Family == nft.Bridge:
		return filters.EBTablesNFT
	}
	return filters.NFTables
}

func (s *source) dump(typ uint16, family byte, attrs []netlink.Attribute) ([]netlink.Message, error) {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return nil, fmt.Errorf("read nftables: %w", err)
	}
	msgs, err := s.conn.Execute(message(typ, family, netlink.Request|netlink.Dump, data))
	if err != nil {
		return nil, fmt.Errorf("read nftables: %w", err)
	}
	return msgs, nil
}

// message is a request of nfnetlink: struct nfgenmsg and attributes.
func message(typ uint16, family byte, flags netlink.HeaderFlags, attrs []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ), Flags: flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// attributes are those behind struct nfgenmsg.
func attributes(data []byte) []netlink.Attribute {
	if len(data) < 4 {
		return nil
	}
	return nested(data[4:])
}

// nested are the attributes in an attribute, without the flags of their types.
func nested(data []byte) []netlink.Attribute {
	list, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return nil
	}
	for i := range list {
		list[i].Type &^= unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
	}
	return list
}

func text(data []byte) string { return strings.TrimRight(string(data), "\x00") }

func number(data []byte) uint32 {
	if len(data) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(data)
}
