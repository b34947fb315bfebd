// Package answers reads answers of DNS: which addresses they have, and for which names. It reads
// whatever bytes come, and its functions may be called concurrently.
package answers

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// headerLen is the length of a message's header, in bytes (RFC 1035, 4.1.1).
const headerLen = 12

// Record is one of a message's records, by its places in it.
type Record struct {
	Kind dnsmessage.Type
	TTL  int // where the TTL is
	Data []byte
}

// Each calls f with the records behind the question, in their order, and reports whether
// all that the header counts are whole.
func Each(raw []byte, f func(Record)) bool {
	if len(raw) < headerLen {
		return false
	}
	i := headerLen
	for range binary.BigEndian.Uint16(raw[4:]) {
		i = skipName(raw, i) + 4
	}
	count := int(binary.BigEndian.Uint16(raw[6:])) + int(binary.BigEndian.Uint16(raw[8:])) + int(binary.BigEndian.Uint16(raw[10:]))
	for range count {
		i = skipName(raw, i)
		if i+10 > len(raw) {
			return false
		}
		end := i + 10 + int(binary.BigEndian.Uint16(raw[i+8:]))
		if end > len(raw) {
			return false
		}
		f(Record{Kind: dnsmessage.Type(binary.BigEndian.Uint16(raw[i:])), TTL: i + 4, Data: raw[i+10 : end]})
		i = end
	}
	return i <= len(raw)
}

// skipName returns where the name at i ends, beyond the message if it does not.
func skipName(raw []byte, i int) int {
	for i < len(raw) {
		switch {
		case raw[i] == 0:
			return i + 1
		case raw[i]&0xc0 != 0:
			return i + 2
		}
		i += 1 + int(raw[i])
	}
	return len(raw) + 1
}

// Rebinds returns an address of an answer that a public name must not have, because a
// program in a guest that trusts its own machine and its link would be led there by the
// owner of the name (DNS rebinding): loopback, link-local and unspecified ones. The zero Addr
// says that the answer has none. Names below localhost are no public names (RFC 6761, 6.3).
func Rebinds(name string, raw []byte) netip.Addr {
	if strings.HasSuffix(name, ".localhost.") {
		return netip.Addr{}
	}
	var found netip.Addr
	Each(raw, func(r Record) {
		for _, a := range r.Addresses() {
			if a = a.Unmap(); a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() {
				found = a
			}
		}
	})
	return found
}

// Parameters of HTTPS and SVCB records that are lists of addresses (RFC 9460, 14.3.2).
const (
	ParamIPv4 = 4
	ParamIPv6 = 6
)

// Addresses are those of an A, AAAA, SVCB or HTTPS record.
func (r Record) Addresses() []netip.Addr {
	switch r.Kind {
	case dnsmessage.TypeA:
		return split(r.Data, 4)
	case dnsmessage.TypeAAAA:
		return split(r.Data, 16)
	case TypeSVCB, TypeHTTPS:
		return hints(r.Data)
	}
	return nil
}

// hints are the addresses in the parameters of an HTTPS or SVCB record: its priority, its
// target, and parameters with key, length and value (RFC 9460, 2.2).
func hints(data []byte) []netip.Addr {
	var list []netip.Addr
	for i := skipName(data, 2); i+4 <= len(data); {
		key, length := binary.BigEndian.Uint16(data[i:]), int(binary.BigEndian.Uint16(data[i+2:]))
		if i += 4; i+length > len(data) {
			break
		}
		switch value := data[i : i+length]; key {
		case ParamIPv4:
			list = append(list, split(value, 4)...)
		case ParamIPv6:
			list = append(list, split(value, 16)...)
		}
		i += length
	}
	return list
}

// split returns the addresses of that many bytes each that data is a list of.
func split(data []byte, size int) []netip.Addr {
	var list []netip.Addr
	for ; len(data) >= size; data = data[size:] {
		a, _ := netip.AddrFromSlice(data[:size]) // of 4 or 16 bytes
		list = append(list, a)
	}
	return list
}

// Types that package dnsmessage has no names for (RFC 9460).
const (
	TypeSVCB  dnsmessage.Type = 64
	TypeHTTPS dnsmessage.Type = 65
)
