package rtnl

import (
	"encoding/binary"
	"iter"
	"strings"
)

// Attr is an attribute, struct rtattr.
type Attr struct {
	Type  uint16 // such as IFLA_MTU
	Value []byte // without padding
}

const attrHeader = 4 // sizeof(struct rtattr)

func align4(n int) int { return (n + 3) &^ 3 }

// Attrs reads a list of attributes. An attribute that is cut off ends the list. The
// values share memory with b.
func Attrs(b []byte) []Attr {
	var list []Attr
	for a := range attrs(b) {
		list = append(list, a)
	}
	return list
}

// attrs yields the attributes of Attrs one by one.
func attrs(b []byte) iter.Seq[Attr] {
	return func(yield func(Attr) bool) {
		for len(b) >= attrHeader {
			n := int(binary.NativeEndian.Uint16(b))
			if n < attrHeader || n > len(b) {
				return
			}
			// The upper bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER.
			if !yield(Attr{binary.NativeEndian.Uint16(b[2:]) & 0x3fff, b[attrHeader:n]}) {
				return
			}
			b = b[min(align4(n), len(b)):]
		}
	}
}

// Append appends attributes with their headers and padding.
func Append[B ~[]byte](b B, attrs ...Attr) B {
	for _, a := range attrs {
		b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+len(a.Value)))
		b = binary.NativeEndian.AppendUint16(b, a.Type)
		b = append(b, a.Value...)
		b = append(b, make([]byte, align4(len(a.Value))-len(a.Value))...)
	}
	return b
}

// Nest returns an attribute that holds others.
func Nest(kind uint16, attrs ...Attr) Attr { return Attr{kind, Append([]byte(nil), attrs...)} }

// Uint32 returns an attribute of a 32-bit number.
func Uint32(kind uint16, v uint32) Attr { return Attr{kind, nativeUint32(v)} }

// String returns an attribute of a string with its zero byte.
func String(kind uint16, s string) Attr { return Attr{kind, append([]byte(s), 0)} }

// text returns a string attribute's value without its zero byte.
func text(value []byte) string { return strings.TrimRight(string(value), "\x00") }

func nativeUint32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// find returns the value of the first attribute of that type, nil if there is none.
func find(list []Attr, kind uint16) []byte {
	for _, a := range list {
		if a.Type == kind {
			return a.Value
		}
	}
	return nil
}
