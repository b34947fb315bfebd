package packet

import "encoding/binary"

// Echo is an ICMP echo request or its reply (RFC 792, page 14).
type Echo struct {
	Reply   bool
	ID, Seq uint16
	Data    []byte
}

// Types of messages, and the length of the header of these two.
const (
	icmpEchoReply   = 0
	icmpEchoRequest = 8
	echoHeader      = 8
)

// ParseEcho reads an ICMP message. It returns false for another one than an echo request or
// reply. The data is a part of b. It does not check the checksum.
func ParseEcho(b []byte) (Echo, bool) {
	if len(b) < echoHeader || b[0] != icmpEchoReply && b[0] != icmpEchoRequest || b[1] != 0 {
		return Echo{}, false
	}
	return Echo{Reply: b[0] == icmpEchoReply, ID: binary.BigEndian.Uint16(b[4:]), Seq: binary.BigEndian.Uint16(b[6:]), Data: b[echoHeader:]}, true
}

// Message is the ICMP message, with its checksum.
func (e Echo) Message() []byte {
	b := make([]byte, echoHeader, echoHeader+len(e.Data))
	if !e.Reply {
		b[0] = icmpEchoRequest
	}
	binary.BigEndian.PutUint16(b[4:], e.ID)
	binary.BigEndian.PutUint16(b[6:], e.Seq)
	b = append(b, e.Data...)
	binary.BigEndian.PutUint16(b[2:], checksum(b, 0))
	return b
}
