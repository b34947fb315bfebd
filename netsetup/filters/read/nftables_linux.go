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

// conn sends a request to nftables and returns the messages of the reply.
type conn interface {
	Execute(netlink.Message) ([]netlink.Message, error)
}

// source reads the nftables half of one snapshot.
type source struct {
	conn  conn
	links map[uint32]string // by index; linkNames fills it
	sets  map[setKey]*set   // those that rules have asked for so far
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

// currentGeneration is the number of the present state of nftables. Each transaction
// increases it.
//
//	nft monitor, "new generation"
func currentGeneration() (uint32, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, fmt.Errorf("read nftables: %w", err)
	}
	defer c.Close() //nolint:errcheck // the socket was only read
	return generation(c)
}

func generation(c conn) (uint32, error) {
	msgs, err := c.Execute(message(unix.NFT_MSG_GETGEN, 0, netlink.Request, nil))
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

// readNFTables reads the tables of other programs.
func readNFTables() ([]filters.Table, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("read nftables: %w", err)
	}
	defer c.Close()          //nolint:errcheck // the socket was only read
	c.SetReadBuffer(4 << 20) //nolint:errcheck // a smaller buffer is only slower
	return (&source{conn: c}).consistent()
}

// maxTries bounds how often a snapshot that a change interrupts is begun again.
const maxTries = 20

// consistent reads the tables within one generation: no dump saw another state than
// the others.
func (s *source) consistent() ([]filters.Table, error) {
	for tries := 0; ; tries++ {
		before, err := generation(s.conn)
		if err != nil {
			return nil, err
		}
		tables, err := s.tables()
		after, genErr := generation(s.conn)
		if err == nil && genErr == nil && before == after {
			return tables, nil
		}
		if tries == maxTries {
			return nil, errors.Join(err, genErr, errors.New("read nftables: the rules change faster than they are read"))
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

// linkNames are the names of the links by their index.
func (s *source) linkNames() map[uint32]string {
	if s.links != nil {
		return s.links
	}
	s.links = map[uint32]string{}
	list, _ := net.Interfaces() // without names, a rule on an index matches nothing
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

// Attributes of a chain's hook (linux/netfilter/nf_tables.h).
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
		raw := rawRuleOf(m.Data)
		i, ok := index[raw.key]
		if !ok {
			continue
		}
		c := list[i].Chain(raw.chain)
		if c == nil {
			continue
		}
		rules, err := s.decodeRule(list[i].Engine, raw)
		if err != nil {
			return err
		}
		c.Rules = append(c.Rules, rules...)
	}
	return nil
}

// rawRule is a rule as the kernel sends it.
type rawRule struct {
	key         tableKey
	chain       string
	handle      uint64
	expressions []byte
	user        []byte // the comment is in it
}

func rawRuleOf(data []byte) rawRule {
	r := rawRule{key: tableKey{family: data[0]}}
	for _, a := range attributes(data) {
		switch a.Type {
		case unix.NFTA_RULE_TABLE:
			r.key.name = text(a.Data)
		case unix.NFTA_RULE_CHAIN:
			r.chain = text(a.Data)
		case unix.NFTA_RULE_HANDLE:
			if len(a.Data) == 8 {
				r.handle = binary.BigEndian.Uint64(a.Data)
			}
		case unix.NFTA_RULE_EXPRESSIONS:
			r.expressions = a.Data
		case unix.NFTA_RULE_USERDATA:
			r.user = a.Data
		}
	}
	return r
}

// engineOf tells the tables of iptables-nft and ebtables-nft from the tables of nft(8).
// Those two give their tables and base chains fixed names.
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
	return slices.DeleteFunc(msgs, func(m netlink.Message) bool { return len(m.Data) < 4 }), nil // struct nfgenmsg
}

// message is a request to nftables: struct nfgenmsg and attributes.
func message(typ uint16, family byte, flags netlink.HeaderFlags, attrs []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | typ), Flags: flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// attributes are the attributes behind struct nfgenmsg.
func attributes(data []byte) []netlink.Attribute {
	if len(data) < 4 {
		return nil
	}
	return nested(data[4:])
}

// nested are the attributes in an attribute, their types without flags; none where
// the data are malformed.
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
