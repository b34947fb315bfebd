package dns

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// rawRecord is one of a message's records, by its places in it.
type rawRecord struct {
	kind dnsmessage.Type
	ttl  int // where the TTL is
	data []byte
}

// records calls f with the records behind the question, in their order, and reports whether
// all that the header counts are whole.
func records(raw []byte, f func(rawRecord)) bool {
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
		f(rawRecord{kind: dnsmessage.Type(binary.BigEndian.Uint16(raw[i:])), ttl: i + 4, data: raw[i+10 : end]})
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

// rebinds returns an address of an answer that a public name must not have, because a
// program in a guest that trusts its own machine and its link would be led there by the
// owner of the name (DNS rebinding): loopback, link-local and unspecified ones. The zero Addr
// says that the answer has none. Names below localhost are no public names (RFC 6761, 6.3).
func rebinds(name string, raw []byte) netip.Addr {
	if strings.HasSuffix(name, ".localhost.") {
		return netip.Addr{}
	}
	var found netip.Addr
	records(raw, func(r rawRecord) {
		for _, a := range r.addresses() {
			if a = a.Unmap(); a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() {
				found = a
			}
		}
	})
	return found
}

// Parameters of HTTPS and SVCB records that are lists of addresses (RFC 9460, 14.3.2).
const (
	paramIPv4 = 4
	paramIPv6 = 6
)

// addresses are those of an A, AAAA, SVCB or HTTPS record.
func (r rawRecord) addresses() []netip.Addr {
	switch r.kind {
	case dnsmessage.TypeA:
		return split(r.data, 4)
	case dnsmessage.TypeAAAA:
		return split(r.data, 16)
	case typeSVCB, typeHTTPS:
		return hints(r.data)
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
		case paramIPv4:
			list = append(list, split(value, 4)...)
		case paramIPv6:
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
