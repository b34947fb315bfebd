package dns

import (
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/answers"
)

// Filter narrows which names of the Internet's clients get, and learns their addresses before the
// clients do. It is called from several goroutines at once.
type Filter interface {
	// Asks says what becomes of a client's question for a name, which is in lower case and has no dot
	// at its end. It must not block.
	Asks(client netip.Addr, name string) Ruling
	// Answers is called before an answer leaves to a client whose question was Checked. The addresses
	// are those at the end of the chain of names that begins with the question, and live for ttl.
	Answers(client netip.Addr, name string, addresses []netip.Addr, ttl time.Duration) Ruling
}

// Ruling is what a Filter says.
type Ruling int

// The rulings.
const (
	Free    Ruling = iota // as without a Filter
	Checked               // the question is asked, and Answers decides about what it leads to; the answer leaves
	Refused               // the client hears that there is no such name
	Failed                // the client hears that the server failed
)

const (
	filtered    = 17 // the Extended DNS Error of a name that the operator of the network refuses (RFC 8914, 4.18)
	optionError = 15 // the option that has an Extended DNS Error (RFC 8914, 2)
)

// asks rules on a client's question. check says that the answer goes through checked; an answer that
// is not nil is all that the client gets.
func (s *Server) asks(client netip.Addr, q query, over transport) (check bool, answer []byte) {
	if s.config.Filter == nil {
		return false, nil
	}
	switch s.config.Filter.Asks(client, plainName(q)) {
	case Free:
		return false, nil
	case Checked:
		if t := q.question().Type; t == answers.TypeHTTPS || t == answers.TypeSVCB {
			return true, q.pack(response{}, over) // whose hints would lead past the addresses that are checked
		}
		return true, nil
	case Refused:
		return false, q.pack(response{rcode: dnsmessage.RCodeNameError, filtered: true}, over)
	}
	return false, q.pack(response{rcode: dnsmessage.RCodeServerFailure}, over)
}

// checked is what leaves in place of an answer, once the Filter has heard of its addresses.
func (s *Server) checked(client netip.Addr, q query, answer []byte, over transport) []byte {
	if answer == nil {
		return nil
	}
	addresses, ttl := answers.Chain(q.question().Name.String(), answer)
	if len(addresses) == 0 {
		return answer
	}
	switch s.config.Filter.Answers(client, plainName(q), addresses, ttl) {
	case Free, Checked:
		return answer
	case Refused:
		return q.pack(response{rcode: dnsmessage.RCodeNameError, filtered: true}, over)
	}
	return q.pack(response{rcode: dnsmessage.RCodeServerFailure}, over)
}

func plainName(q query) string {
	return strings.TrimSuffix(answers.Lower(q.question().Name.String()), ".")
}
