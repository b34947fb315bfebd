package rtnl

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Message is an rtnetlink(7) message without its nlmsghdr, as the kernel listed it: a
// fixed header and attributes.
type Message []byte

// Lengths of the fixed headers, in bytes.
const (
	addressHeader = 8  // struct ifaddrmsg
	routeHeader   = 12 // struct rtmsg, and of the same length ndmsg and fib_rule_hdr
	linkHeader    = 16 // struct ifinfomsg
)

// MarshalText encodes the message in base64, as encoding/json does a []byte. Types that
// embed a Message inherit it.
func (m Message) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, m), nil
}

// UnmarshalText decodes what MarshalText encoded.
func (m *Message) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.AppendDecode(nil, text)
	*m = b
	return err
}

// attr returns the value of the first attribute of that type behind a fixed header of
// that length, nil if there is none.
func (m Message) attr(header int, kind uint16) []byte {
	for a := range attrs(m[min(header, len(m)):]) {
		if a.Type == kind {
			return a.Value
		}
	}
	return nil
}

func (m Message) uint32(header int, kind uint16) uint32 {
	v := m.attr(header, kind)
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

// addr returns an address attribute, not valid if there is none.
func (m Message) addr(header int, kind uint16) netip.Addr {
	a, _ := netip.AddrFromSlice(m.attr(header, kind))
	return a
}

// edited returns a copy with the attributes that edit returns in place of each one, and
// false to leave it out, followed by more.
func (m Message) edited(header int, edit func(Attr) (Attr, bool), more ...Attr) Message {
	out := slices.Clone(m[:header])
	for a := range attrs(m[header:]) {
		if a, ok := edit(a); ok {
			out = Append(out, a)
		}
	}
	return Append(out, more...)
}
