package read

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// legacyFamily describes how iptables-legacy lays out its tables for IPv4 or IPv6
// (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h).
type legacyFamily struct {
	family    nft.Family
	names     string // the file that lists the loaded tables
	domain    int
	level     int
	addr      int  // bytes of an address
	flags     int  // offset of the flags in an entry
	gotoFlag  byte // IPT_F_GOTO, IP6T_F_GOTO
	target    int  // offset of target_offset
	entrySize int
}

var legacyFamilies = []legacyFamily{
	{nft.IP, "/proc/net/ip_tables_names", unix.AF_INET, unix.SOL_IP, 4, 82, 2, 88, 112},
	{nft.IP6, "/proc/net/ip6_tables_names", unix.AF_INET6, unix.SOL_IPV6, 16, 131, 4, 140, 168},
}

// Options of getsockopt(2): IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES.
const (
	getInfo    = 64
	getEntries = 65
)

// Sizes of struct ipt_getinfo and of the head of struct ipt_get_entries.
const (
	infoSize    = 84
	entriesHead = 40
)

// readLegacy reads the loaded tables of iptables-legacy. Only these: a request for
// another one would make the kernel load it and filter every packet with it.
//
//	iptables-legacy-save
func readLegacy() ([]filters.Table, error) {
	var list []filters.Table
	var errs []error
	for _, f := range legacyFamilies {
		b, err := os.ReadFile(f.names)
		if err != nil || len(b) == 0 {
			continue
		}
		for name := range strings.FieldsSeq(string(b)) {
			t, err := f.read(name)
			if err != nil {
				errs = append(errs, fmt.Errorf("read table %s of iptables-legacy: %w", name, err))
				continue
			}
			list = append(list, t)
		}
	}
	return list, errors.Join(errs...)
}

func (f legacyFamily) read(name string) (filters.Table, error) {
	info, blob, err := f.blob(name)
	if err != nil {
		return filters.Table{}, err
	}
	return f.table(name, info, blob)
}

// blob reads a table as the kernel keeps it: struct ipt_getinfo, then the entries.
func (f legacyFamily) blob(name string) (info, blob []byte, err error) {
	fd, err := unix.Socket(f.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // the socket was only read
	for tries := 0; ; tries++ {
		info = make([]byte, infoSize)
		copy(info, name)
		if err := getsockopt(fd, f.level, getInfo, info); err != nil {
			return nil, nil, err
		}
		size := binary.NativeEndian.Uint32(info[80:])
		entries := make([]byte, entriesHead+int(size))
		copy(entries, name)
		binary.NativeEndian.PutUint32(entries[32:], size)
		err := getsockopt(fd, f.level, getEntries, entries)
		if errors.Is(err, unix.EAGAIN) && tries < maxTries { // the size has changed since
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		return info, entries[entriesHead:], nil
	}
}

// entry is one struct ipt_entry: a rule, or the head or the end of a chain.
type entry struct {
	at     int
	data   []byte
	target xtModule
}

var errMalformed = errors.New("the kernel's reply is malformed")

func (f legacyFamily) entries(blob []byte) ([]entry, error) {
	var list []entry
	for at := 0; at < len(blob); {
		if at+f.entrySize > len(blob) {
			return nil, errMalformed
		}
		target := int(binary.NativeEndian.Uint16(blob[at+f.target:]))
		next := int(binary.NativeEndian.Uint16(blob[at+f.target+2:]))
		if target < f.entrySize || next < target+32 || at+next > len(blob) {
			return nil, errMalformed
		}
		data := blob[at : at+next]
		list = append(list, entry{at, data, module(data[target:])})
		at += next
	}
	return list, nil
}

// module reads struct xt_entry_match or xt_entry_target: size, name, revision, data.
func module(b []byte) xtModule {
	return xtModule{name: text(cut(b[2:31])), rev: uint32(b[31]), info: b[32:]}
}

// table sorts the entries into chains. The kernel says where each base chain begins.
// Every other chain begins behind an entry with the target ERROR, which holds its name.
func (f legacyFamily) table(name string, info, blob []byte) (filters.Table, error) {
	list, err := f.entries(blob)
	if err != nil {
		return filters.Table{}, err
	}
	t := filters.Table{Engine: filters.IPTablesLegacy, Family: f.family, Name: name}
	starts := map[int]filters.Chain{}
	chains := map[int]string{} // by the offset of the first rule
	valid := binary.NativeEndian.Uint32(info[32:])
	for n, h := range []nft.Hook{nft.Prerouting, nft.Input, nft.Forward, nft.Output, nft.Postrouting} {
		if valid&(1<<n) == 0 {
			continue
		}
		at := int(binary.NativeEndian.Uint32(info[36+4*n:]))
		c := filters.Chain{
			Name: strings.ToUpper(string(h)), Type: legacyType(name), Hook: h, Priority: legacyPriority(name, h), Policy: filters.Accept,
		}
		starts[at], chains[at] = c, c.Name
	}
	for i, e := range list {
		if e.target.name == "ERROR" && i+1 < len(list) {
			chains[list[i+1].at] = text(cut(e.target.info))
		}
	}
	under := map[int]bool{}
	for n := range 5 {
		under[int(binary.NativeEndian.Uint32(info[56+4*n:]))] = true
	}
	f.fill(&t, list, starts, chains, under)
	return t, nil
}

// fill puts the rules into their chains. The last entry of a base chain is its policy
// (underflow, at the offsets in under), that of another chain its return.
func (f legacyFamily) fill(t *filters.Table, list []entry, starts map[int]filters.Chain, chains map[int]string, under map[int]bool) {
	for i, e := range list {
		if e.target.name == "ERROR" {
			continue
		}
		if name, begins := chains[e.at]; begins {
			c, isBase := starts[e.at]
			if !isBase {
				c = filters.Chain{Name: name}
			}
			t.Chains = append(t.Chains, c)
		}
		if len(t.Chains) == 0 {
			continue
		}
		c := &t.Chains[len(t.Chains)-1]
		r := f.rule(c.Name, e, chains)
		_, nextBegins := chains[f.next(list, i)]
		last := nextBegins || i+1 == len(list) || list[i+1].target.name == "ERROR"
		switch {
		case c.Hook != "" && under[e.at] && last:
			c.Policy, c.Packets = r.Verdict, r.Packets
		case c.Hook == "" && last:
		default:
			c.Rules = append(c.Rules, r)
		}
	}
}

func (f legacyFamily) next(list []entry, i int) int {
	if i+1 == len(list) {
		return -1
	}
	return list[i+1].at
}

func legacyType(table string) string { return pick(table == "nat", "nat", "filter") }

// legacyPriority is NF_IP_PRI_* of a table at a hook.
func legacyPriority(table string, h nft.Hook) int {
	switch table {
	case "raw":
		return -300
	case "mangle":
		return -150
	case "nat":
		return pick(h == nft.Prerouting || h == nft.Output, -100, 100)
	case "security":
		return 50
	}
	return 0
}

// rule decodes an entry; chains are the names of the chains by the offset of their first
// rule.
func (f legacyFamily) rule(chain string, e entry, chains map[int]string) filters.Rule {
	r := filters.Rule{Verdict: filters.Continue, Packets: f.packets(e.data)}
	var flags xtFlags
	for _, m := range f.conditions(e.data) {
		r.Matches = append(r.Matches, m)
		flags.add(m)
	}
	var words []string
	target := int(binary.NativeEndian.Uint16(e.data[f.target:]))
	for at := f.entrySize; at+32 <= target; {
		size := int(binary.NativeEndian.Uint16(e.data[at:]))
		if size < 32 || at+size > target {
			break
		}
		matches, say, comment := module(e.data[at : at+size]).match()
		r.Matches, words = append(r.Matches, matches...), append(words, say)
		if comment != "" {
			r.Comment = comment
		}
		at += size
	}
	if e.target.name != "" {
		words = append(words, e.target.target(&r)...)
	} else {
		f.standard(&r, e, chains)
	}
	r.Text = flags.rule(chain, r, words)
	return r
}

// packets is the first of an entry's two counters, which end its head.
func (f legacyFamily) packets(e []byte) uint64 { return binary.NativeEndian.Uint64(e[f.entrySize-16:]) }

// standard decodes struct xt_standard_target, the target of verdicts and jumps.
func (f legacyFamily) standard(r *filters.Rule, e entry, chains map[int]string) {
	v := int32(nativeNumber(e.target.info))
	switch {
	case v == -1:
		r.Verdict = filters.Discard
	case v == -2:
		r.Verdict = filters.Accept
	case v == -4:
		r.Verdict = filters.Queue
	case v == -5: // XT_RETURN
		r.Verdict = filters.Return
	case v >= 0 && chains[int(v)] != "":
		r.Verdict = pick(e.data[f.flags]&f.gotoFlag != 0, filters.Goto, filters.Jump)
		r.Chain = chains[int(v)]
	case v >= 0: // the rule that follows: this one has no target
	default:
		r.Verdict = filters.Unknown
	}
}

// conditions decodes struct ipt_ip: addresses, links and protocol.
func (f legacyFamily) conditions(e []byte) []filters.Match {
	inv := e[f.flags+1]
	v6 := f.family == nft.IP6
	var list []filters.Match
	add := func(set bool, field filters.Field, v, mask []byte, bit byte) {
		if !set {
			return
		}
		if mask != nil && ones(mask) == len(mask) {
			mask = nil
		}
		list = append(list, filters.Match{Fields: []filters.Field{field}, Mask: mask, Any: []filters.Range{exactly(v)}, Not: inv&bit != 0})
	}
	n := f.addr
	addresses := e[:4*n]
	src := filters.Field{Header: filters.NetworkHeader, Offset: pick(v6, 8, 12), Len: n}
	dst := filters.Field{Header: filters.NetworkHeader, Offset: pick(v6, 24, 16), Len: n}
	srcMask, dstMask := addresses[2*n:3*n], addresses[3*n:]
	add(!zero(srcMask), src, addresses[:n], srcMask, 0x08) // IPT_INV_SRCIP
	add(!zero(dstMask), dst, addresses[n:2*n], dstMask, 0x10)
	links := e[4*n:]
	in, out := links[:ones(links[32:48])], links[16:16+ones(links[48:64])]
	add(len(in) > 0, filters.Field{Name: filters.InLink, Len: 16}, in, nil, 0x01)
	add(len(out) > 0, filters.Field{Name: filters.OutLink, Len: 16}, out, nil, 0x02)
	proto := binary.NativeEndian.Uint16(links[64:])
	add(proto != 0, filters.Field{Name: filters.L4Proto, Len: 1}, []byte{byte(proto)}, nil, 0x40)
	if !v6 && e[f.flags]&1 != 0 { // IPT_F_FRAG: fragments only
		list = append(list, filters.Match{})
	}
	return list
}

func zero(b []byte) bool { return len(strings.Trim(string(b), "\x00")) == 0 }

// ones is how many bytes of a mask are 0xff, counted from the first to the first other.
func ones(mask []byte) int {
	for i, b := range mask {
		if b != 0xff {
			return i
		}
	}
	return len(mask)
}
