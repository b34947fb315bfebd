package read

import (
	"bytes"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/netsetup/filters"
)

// maxElements bounds how many elements of a set are kept. A rule that asks a bigger set
// may match.
const maxElements = 1 << 16

// Attributes of sets and their elements (linux/netfilter/nf_tables.h).
const (
	setFlags     = 3 // NFTA_SET_FLAGS
	setConcat    = 0x80
	elemList     = 3 // NFTA_SET_ELEM_LIST_ELEMENTS
	elemKey      = 1
	elemData     = 2
	elemFlags    = 3
	elemKeyEnd   = 10
	dataValue    = 1 // NFTA_DATA_VALUE
	dataVerdict  = 2
	verdictCode  = 1 // NFTA_VERDICT_CODE
	verdictChain = 2
)

// set is a set or map with its elements; unread is true for a set with too many.
type set struct {
	elements []element
	unread   bool
}

// element is a range of keys and, in a verdict map, the verdict on them.
type element struct {
	filters.Range
	end     bool // in a set of intervals: its key is the first value behind a range
	verdict filters.Verdict
	chain   string
}

// set returns a set that a rule asks for. It reads each set once.
//
//	nft list set FAMILY TABLE SET
func (s *source) set(key tableKey, name string) (*set, error) {
	at := setKey{key.family, key.name, name}
	if have := s.sets[at]; have != nil {
		return have, nil
	}
	attrs := []netlink.Attribute{
		{Type: unix.NFTA_SET_TABLE, Data: []byte(key.name + "\x00")},
		{Type: unix.NFTA_SET_NAME, Data: []byte(name + "\x00")},
	}
	flags, err := s.setFlags(key.family, attrs)
	if err != nil {
		return nil, err
	}
	msgs, err := s.dump(unix.NFT_MSG_GETSETELEM, key.family, attrs)
	if err != nil {
		return nil, err
	}
	read := &set{}
	for _, m := range msgs {
		read.add(attributes(m.Data))
	}
	switch {
	case len(read.elements) > maxElements:
		read.elements, read.unread = nil, true
	case flags&unix.NFT_SET_INTERVAL != 0 && flags&setConcat == 0:
		read.elements = intervals(read.elements)
	default: // in the order of nft(8); the kernel has another one at each boot
		order.By(read.elements, func(a, b element) int { return bytes.Compare(a.Low, b.Low) })
	}
	s.sets[at] = read
	return read, nil
}

// setFlags reads the flags of a set (NFT_SET_*).
func (s *source) setFlags(family byte, attrs []netlink.Attribute) (uint32, error) {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return 0, err
	}
	msgs, err := s.conn.Execute(message(unix.NFT_MSG_GETSET, family, netlink.Request, data))
	if err != nil {
		return 0, err
	}
	var flags uint32
	for _, m := range msgs {
		for _, a := range attributes(m.Data) {
			if a.Type == setFlags {
				flags = number(a.Data)
			}
		}
	}
	return flags, nil
}

func (s *set) add(attrs []netlink.Attribute) {
	for _, a := range attrs {
		if a.Type != elemList {
			continue
		}
		for _, e := range nested(a.Data) {
			s.elements = append(s.elements, decodeElement(nested(e.Data)))
		}
	}
}

func decodeElement(attrs []netlink.Attribute) element {
	var e element
	for _, a := range attrs {
		switch a.Type {
		case elemKey:
			e.Low = value(a.Data)
		case elemKeyEnd:
			e.High = value(a.Data)
		case elemFlags:
			e.end = number(a.Data)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case elemData:
			for _, d := range nested(a.Data) {
				if d.Type == dataVerdict {
					e.verdict, e.chain = decodeVerdict(d.Data)
				}
			}
		}
	}
	if e.High == nil {
		e.High = e.Low
	}
	return e
}

func value(data []byte) []byte {
	for _, a := range nested(data) {
		if a.Type == dataValue {
			return a.Data
		}
	}
	return nil
}

// intervals joins the starts and ends in a set of intervals to ranges. A range without
// an end goes up to the highest value.
func intervals(marks []element) []element {
	order.By(marks, func(a, b element) int {
		if c := bytes.Compare(a.Low, b.Low); c != 0 {
			return c
		}
		return pick(a.end, 0, 1) - pick(b.end, 0, 1)
	})
	var list []element
	for i, m := range marks {
		if m.end {
			continue
		}
		m.High = bytes.Repeat([]byte{0xff}, len(m.Low))
		if i+1 < len(marks) {
			m.High = before(marks[i+1].Low)
		}
		list = append(list, m)
	}
	return list
}

// before is the value minus one.
func before(v []byte) []byte {
	v = slices.Clone(v)
	for i := len(v) - 1; i >= 0; i-- {
		v[i]--
		if v[i] != 0xff {
			break
		}
	}
	return v
}

// verdicts are the verdicts by their code, from NFT_RETURN to NF_QUEUE.
var verdicts = map[int32]filters.Verdict{
	-5: filters.Return, -4: filters.Goto, -3: filters.Jump, -2: filters.Continue, -1: filters.Continue, 0: filters.Discard, 1: filters.Accept, 3: filters.Queue,
}

func decodeVerdict(data []byte) (v filters.Verdict, chain string) {
	v = filters.Unknown
	for _, a := range nested(data) {
		switch a.Type {
		case verdictCode:
			code := int32(number(a.Data))
			if code > 0 {
				code &= 0xff // the number of a queue is above
			}
			if known, ok := verdicts[code]; ok {
				v = known
			}
		case verdictChain:
			chain = text(a.Data)
		}
	}
	return v, chain
}
