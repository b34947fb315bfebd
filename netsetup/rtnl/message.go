package netsetup

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
	addrKind kind = 8
	bodyKind kind = 12 // routes, neighbours and rules
)

// attr is an attribute, struct rtattr.
type attr struct {
	kind  uint16
	value []byte
}

const attrHeader = 4

func align4(n int) int { return (n + 3) &^ 3 }

// attrs reads attributes; what is cut off ends the list.
func attrs(b []byte) []attr {
	var list []attr
	for len(b) >= attrHeader {
		n := int(binary.NativeEndian.Uint16(b))
		if n < attrHeader || n > len(b) {
			break
		}
		// The upper bits tell of nesting and byte order.
		list = append(list, attr{binary.NativeEndian.Uint16(b[2:]) & 0x3fff, b[attrHeader:n]})
		b = b[min(align4(n), len(b)):]
	}
	return list
}

func appendAttr(b []byte, a attr) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(a.value)))
	b = binary.NativeEndian.AppendUint16(b, a.kind)
	b = append(b, a.value...)
	return append(b, make([]byte, align4(len(a.value))-len(a.value))...)
}

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func (r Raw) attrs(k kind) []attr { return attrs(r[min(int(k), len(r)):]) }

// attr finds an attribute's value, nil if there is none.
func (r Raw) attr(k kind, which uint16) []byte {
	for _, a := range r.attrs(k) {
		if a.kind == which {
			return a.value
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

func (r Raw) addr(k kind, which uint16) netip.Addr {
	a, _ := netip.AddrFromSlice(r.attr(k, which))
	return a
}

// text is a string attribute's, without its zero byte.
func (r Raw) text(k kind, which uint16) string {
	return strings.TrimRight(string(r.attr(k, which)), "\x00")
}

// edited is a copy in which edit has had each attribute: it returns what to
// put in its place, and false to leave it out.
func (r Raw) edited(k kind, edit func(attr) (attr, bool), more ...attr) Raw {
	out := slices.Clone(r[:k])
	for _, a := range r.attrs(k) {
		if a, ok := edit(a); ok {
			out = appendAttr(out, a)
		}
	}
	for _, a := range more {
		out = appendAttr(out, a)
	}
	return out
}
