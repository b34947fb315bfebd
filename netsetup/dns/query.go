package dns

import (
	"encoding/binary"
	"errors"
	"math"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/answers"
)

// transport is how a message came, as package net names it.
type transport string

const (
	overUDP transport = "udp"
	overTCP transport = "tcp"
)

const (
	headerLen = 12
	minUDP    = 512  // every client takes so much (RFC 1035, 4.2.1)
	maxUDP    = 4096 // no client gets more, whatever it announces
	// offeredUDP passes every link unfragmented (DNS flag day 2020).
	offeredUDP = 1232
)

// Numbers that dnsmessage has no names for.
const (
	rcodeBadVers dnsmessage.RCode = 16 // RFC 6891, 9
	typeDS       dnsmessage.Type  = 43
	typeDNSKEY   dnsmessage.Type  = 48
	typeIXFR     dnsmessage.Type  = 251
)

// query is the part of a message that its answer depends on.
type query struct {
	header    dnsmessage.Header
	questions []dnsmessage.Question      // one; none if it is malformed
	opt       *dnsmessage.ResourceHeader // of EDNS; nil without
}

// response is an answer that this server makes itself.
type response struct {
	rcode         dnsmessage.RCode
	filtered      bool // the name is refused, and not missing
	authoritative bool
	answers       []dnsmessage.Resource
	authorities   []dnsmessage.Resource
}

// parse reads a message. ok reports whether it is a query. An rcode other than
// RCodeSuccess is to refuse it with.
func parse(raw []byte) (q query, rcode dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	header, err := p.Start(raw)
	if err != nil || header.Response {
		// If servers answered answers, two of them could keep each other busy for ever.
		return query{}, 0, false
	}
	q.header = header
	if header.OpCode != 0 {
		return q, dnsmessage.RCodeNotImplemented, true
	}
	if binary.BigEndian.Uint16(raw[4:]) != 1 || compressed(raw) {
		return q, dnsmessage.RCodeFormatError, true
	}
	question, err := p.Question()
	if err != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	q.questions = []dnsmessage.Question{question}
	if q.opt, err = findOPT(&p); err != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	return q, q.refusal(), true
}

// compressed reports whether the first name of a message ends in a pointer. It could
// point to the header only, and the name would change with the id under which the query
// is forwarded.
func compressed(raw []byte) bool {
	for at := headerLen; at < len(raw) && raw[at] != 0; at += 1 + int(raw[at]) {
		if raw[at]&0xc0 != 0 {
			return true
		}
	}
	return false
}

var errTwoOPT = errors.New("more than one OPT record")

// findOPT finds the OPT record. It reads to the end of the message, and returns an error
// if that is not whole.
func findOPT(p *dnsmessage.Parser) (*dnsmessage.ResourceHeader, error) {
	for _, skip := range []func() error{p.SkipAllQuestions, p.SkipAllAnswers, p.SkipAllAuthorities} {
		if err := skip(); err != nil {
			return nil, err
		}
	}
	var opt *dnsmessage.ResourceHeader
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return opt, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Type == dnsmessage.TypeOPT {
			if opt != nil {
				return nil, errTwoOPT // RFC 6891, 6.1.1
			}
			opt = &h
		}
		if err := p.SkipAdditional(); err != nil {
			return nil, err
		}
	}
}

// refusal returns the code to refuse a well-formed query with, or RCodeSuccess.
func (q query) refusal() dnsmessage.RCode {
	if q.opt != nil && q.opt.TTL>>16&0xff != 0 {
		return rcodeBadVers
	}
	if c := q.question().Class; c != dnsmessage.ClassINET && c != dnsmessage.ClassANY {
		return dnsmessage.RCodeRefused
	}
	// The answer to a zone transfer is many messages; the forwarder passes on one.
	if t := q.question().Type; t == dnsmessage.TypeAXFR || t == typeIXFR {
		return dnsmessage.RCodeRefused
	}
	return dnsmessage.RCodeSuccess
}

func (q query) question() dnsmessage.Question { return q.questions[0] }

// limit returns how long an answer may be, in bytes.
func (q query) limit(over transport) int {
	switch {
	case over == overTCP:
		return math.MaxUint16
	case q.opt == nil:
		return minUDP
	default:
		return min(max(int(q.opt.Class), minUDP), maxUDP)
	}
}

// pack returns the message that answers the query.
func (q query) pack(r response, over transport) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, OpCode: q.header.OpCode, Authoritative: r.authoritative,
			RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true,
			CheckingDisabled: q.header.CheckingDisabled,
			RCode:            r.rcode & 0xf, // the OPT record has the rest
		},
		Questions: q.questions, Answers: r.answers, Authorities: r.authorities, Additionals: q.additionals(r.rcode, r.filtered),
	}
	raw, err := m.Pack()
	if err != nil {
		// Only a name from Reverse can be too long for a message.
		m.RCode, m.Answers, m.Authorities = dnsmessage.RCodeServerFailure, nil, nil
		if raw, err = m.Pack(); err != nil {
			return nil
		}
	}
	return q.fit(raw, over)
}

// additionals returns an OPT record if the query has one (RFC 6891, 7).
func (q query) additionals(rcode dnsmessage.RCode, why bool) []dnsmessage.Resource {
	if q.opt == nil {
		return nil
	}
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(offeredUDP, rcode, q.opt.DNSSECAllowed()); err != nil {
		return nil
	}
	body := &dnsmessage.OPTResource{}
	if why {
		body.Options = []dnsmessage.Option{{Code: optionError, Data: []byte{0, filtered}}}
	}
	return []dnsmessage.Resource{{Header: h, Body: body}}
}

// fit returns the reply itself if the client takes one so long, and otherwise a
// truncated one, after which the client uses TCP. A reply may be cut behind its limit.
func (q query) fit(reply []byte, over transport) []byte {
	if len(reply) <= q.limit(over) {
		return reply
	}
	var p dnsmessage.Parser
	header, err := p.Start(reply)
	if err != nil {
		return nil
	}
	header.Truncated = true
	m := dnsmessage.Message{Header: header, Questions: q.questions, Additionals: q.additionals(header.RCode, false)}
	raw, err := m.Pack()
	if err != nil {
		return nil
	}
	return raw
}

// answeredBy reports whether the message answers the query under this id. It ignores
// the case of names: some servers answer in lower case, and a client that uses the case
// against forgery compares again.
func (q query) answeredBy(raw []byte, id uint16) bool {
	var p dnsmessage.Parser
	header, err := p.Start(raw)
	if err != nil || !header.Response || header.ID != id || binary.BigEndian.Uint16(raw[4:]) != 1 {
		return false
	}
	got, err := p.Question()
	asked := q.question()
	return err == nil && got.Type == asked.Type && got.Class == asked.Class &&
		answers.Lower(got.Name.String()) == answers.Lower(asked.Name.String())
}
