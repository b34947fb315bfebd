package rtnl

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// Raw is an rtnetlink(7) message, without its nlmsghdr, as the kernel listed it. An
// address or a route is kept so because it can be sent back with all that it
// holds, known to us or not.
type Raw []byte

// kind tells what a Raw is; its value is the length of the fixed header.
type kind int

// The headers: struct ifaddrmsg, rtmsg, ndmsg, fib_rule_hdr.
const (
	AddrKind kind = 8
	BodyKind kind = 12 // routes, neighbours and rules
)

// Attr is an attribute, struct rtattr.
type Attr struct {
	Kind  uint16
	Value []byte
}

const attrHeader = 4

func align4(n int) int { return (n + 3) &^ 3 }

// Attrs reads attributes; what is cut off ends the list.
func Attrs(b []byte) []Attr {
	var list []Attr
	for len(b) >= attrHeader {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrHeader || n > len(b) {
			break
		}
		// The upper bits tell of nesting and byte order.
		list = append(list, Attr{binary.NativeEndian.Uint16(b[2:]) & 0x3fff, b[attrHeader:n]})
		b = b[min(align4(n), len(b)):]
	}
	return list
}

func AppendAttr(b []byte, a Attr) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(a.Value)))
	b = binary.NativeEndian.AppendUint16(b, a.Kind)
	b = append(b, a.Value...)
	return append(b, make([]byte, align4(len(a.Value))-len(a.Value))...)
}

func U32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func (r Raw) attrs(k kind) []Attr { return Attrs(r[min(int(k), len(r)):]) }

// attr finds an attribute's value, nil if there is none.
func (r Raw) attr(k kind, which uint16) []byte {
	for _, a := range r.attrs(k) {
		if a.Kind == which {
			return a.Value
		}
	}
	return nil
}

func (r Raw) u32(k kind, which uint16) uint32 {
	v := r.attr(k, which)
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

func (r Raw) Addr(k kind, which uint16) netip.Addr {
	a, _ := netip.AddrFromSlice(r.attr(k, which))
	return a
}

// Text is a string attribute's, without its zero byte.
func (r Raw) Text(k kind, which uint16) string {
	return strings.TrimRight(string(r.attr(k, which)), "\x00")
}

// edited is a copy in which edit has had each attribute: it returns what to
// put in its place, and false to leave it out.
func (r Raw) edited(k kind, edit func(Attr) (Attr, bool), more ...Attr) Raw {
	out := slices.Clone(r[:k])
	for _, a := range r.attrs(k) {
		if a, ok := edit(a); ok {
			out = AppendAttr(out, a)
		}
	}
	for _, a := range more {
		out = AppendAttr(out, a)
	}
	return out
}
