package dhcp6

import (
	"encoding/binary"
	"iter"
	"net"
	"net/netip"
)

// Types of messages (RFC 8415, section 7.3). Those of relays are not among them: qnet's
// networks have none.
const (
	solicit     = 1
	advertise   = 2
	request     = 3
	confirm     = 4
	renew       = 5
	rebind      = 6
	reply       = 7
	release     = 8
	decline     = 9
	information = 11
)

// Options (RFC 8415, section 21, and RFC 3646).
const (
	optClientID    = 1
	optServerID    = 2
	optIANA        = 3
	optIATA        = 4
	optAddress     = 5
	optPreference  = 7
	optStatus      = 13
	optRapidCommit = 14
	optNameServers = 23
	optSearchList  = 24
	optIAPD        = 25
)

// Status codes (RFC 8415, section 21.13).
const (
	success       = 0
	noAddrsAvail  = 2
	noBinding     = 3
	notOnLink     = 4
	noPrefixAvail = 6
)

// Lengths, in bytes.
const (
	headerLen  = 4  // type and transaction
	iaLen      = 12 // of IA_NA and IA_PD, before their options
	addressLen = 24 // of IA Address, before its options
	maxDUID    = 130
)

// maxIAs bounds the associations of a message that are answered. A client has one for each
// interface, and sends those of one link.
const maxIAs = 8

// ia is an identity association of a client (RFC 8415, section 12).
type ia struct {
	option    uint16 // optIANA, optIATA or optIAPD
	id        []byte // 4 bytes
	addresses []netip.Addr
}

// message is what a client says. Its slices share memory with the frame.
type message struct {
	kind   byte
	xid    []byte // 3 bytes
	client []byte // its DUID; nil without
	server []byte // the DUID of the server that it means; nil without
	rapid  bool
	ias    []ia
}

// parse reads a client's message. It returns false for one that is malformed, or of a relay.
func parse(b []byte) (message, bool) {
	if len(b) < headerLen || b[0] < solicit || b[0] > information || b[0] == 10 {
		return message{}, false
	}
	m := message{kind: b[0], xid: b[1:headerLen]}
	rest := headerLen
	for code, value := range options(b[headerLen:]) {
		rest += 4 + len(value)
		if !m.take(code, value) {
			return message{}, false
		}
	}
	return m, rest == len(b)
}

// options yields the options up to the first one that is cut off.
func options(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= 4 {
			end := 4 + int(binary.BigEndian.Uint16(b[2:]))
			if end > len(b) || !yield(binary.BigEndian.Uint16(b), b[4:end]) {
				return
			}
			b = b[end:]
		}
	}
}

// take notes an option. It returns false for one that no client sends.
func (m *message) take(code uint16, value []byte) bool {
	switch code {
	case optClientID:
		m.client = value
		return len(value) > 2 && len(value) <= maxDUID
	case optServerID:
		m.server = value
		return len(value) > 2 && len(value) <= maxDUID
	case optRapidCommit:
		m.rapid = true
	case optIANA, optIATA, optIAPD:
		return m.takeIA(code, value)
	}
	return true
}

func (m *message) takeIA(code uint16, value []byte) bool {
	length := iaLen
	if code == optIATA {
		length = 4
	}
	if len(value) < length {
		return false
	}
	if len(m.ias) == maxIAs {
		return true
	}
	x := ia{option: code, id: value[:4]}
	for code, inner := range options(value[length:]) {
		if code == optAddress && len(inner) >= addressLen && len(x.addresses) < maxIAs {
			x.addresses = append(x.addresses, netip.AddrFrom16([16]byte(inner[:16])))
		}
	}
	m.ias = append(m.ias, x)
	return true
}

// appendOption appends an option with its length.
func appendOption(b []byte, code uint16, value ...byte) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// begin appends an option whose value follows, and end fills in its length.
func begin(b []byte, code uint16) (at int, longer []byte) {
	longer = appendOption(b, code)
	return len(longer), longer
}

func end(b []byte, at int) []byte {
	binary.BigEndian.PutUint16(b[at-2:], uint16(len(b)-at))
	return b
}

// appendStatus appends a status code with what it means.
func appendStatus(b []byte, code byte, text string) []byte {
	at, b := begin(b, optStatus)
	return end(append(append(b, 0, code), text...), at)
}

// appendAddress appends an address with its lifetime in seconds, 0 of one that is not the
// client's.
func appendAddress(b []byte, a netip.Addr, life uint32) []byte {
	at, b := begin(b, optAddress)
	address := a.As16()
	b = append(b, address[:]...)
	b = binary.BigEndian.AppendUint32(b, life)
	return end(binary.BigEndian.AppendUint32(b, life), at)
}

// duid is a server's DUID-LL (RFC 8415, section 11.4): the same for as long as its bridge's MAC.
func duid(mac net.HardwareAddr) []byte { return append([]byte{0, 3, 0, 1}, mac...) }
