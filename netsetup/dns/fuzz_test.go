package dns

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/answers"
)

// seeds are messages that are refused or dropped, by why.
func seeds() map[string][]byte {
	change := func(f func(*dnsmessage.Message)) []byte {
		m := message("web.qnet.", dnsmessage.TypeA)
		f(&m)
		return packed(m)
	}
	whole := packed(withEDNS(message("web.qnet.", dnsmessage.TypeA), 1232))
	header := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	dotted := append(slices.Clone(header), 3, 'a', '.', 'b', 4, 'q', 'n', 'e', 't', 0, 0, 1, 0, 1)
	return map[string][]byte{
		"empty":             {},
		"short-header":      whole[:headerLen-1],
		"is-an-answer":      change(func(m *dnsmessage.Message) { m.Response = true }),
		"header-only":       header,
		"status":            change(func(m *dnsmessage.Message) { m.OpCode = 2 }),
		"update":            change(func(m *dnsmessage.Message) { m.OpCode = 5 }),
		"no-question":       change(func(m *dnsmessage.Message) { m.Questions = nil }),
		"two-questions":     change(func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }),
		"cut-in-name":       whole[:headerLen+3],
		"cut-in-opt":        whole[:len(whole)-1],
		"pointer-to-itself": append(slices.Clone(header), 0xc0, headerLen, 0, 1, 0, 1),
		"pointer-beyond":    append(slices.Clone(header), 0xc0, 0xff, 0, 1, 0, 1),
		// Its name would be the header, and so depend on the id; found by FuzzAnswer.
		"pointer-into-header": append(slices.Clone(header), 0xc0, 0, 0xc0, 0xff, 0, 1, 0, 1, 0xff, 0),
		"reserved-label-kind": append(slices.Clone(header), 0x80, 0, 0, 1, 0, 1),
		"dot-in-label":        dotted,
		"two-opt":             packed(withEDNS(withEDNS(message("web.qnet.", dnsmessage.TypeA), 512), 512)),
		"class-chaos":         change(func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }),
		"class-any":           change(func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassANY }),
		"zone-transfer":       change(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAXFR }),
		"edns-version-1": change(func(m *dnsmessage.Message) {
			*m = withEDNS(*m, 1232)
			m.Additionals[0].Header.TTL |= 1 << 16
		}),
	}
}

func TestRefusals(t *testing.T) {
	const dropped = "dropped"
	want := map[string]string{
		"empty": dropped, "short-header": dropped, "is-an-answer": dropped,
		"header-only": "FormatError", "status": "NotImplemented", "update": "NotImplemented",
		"no-question": "FormatError", "two-questions": "FormatError", "cut-in-name": "FormatError",
		"cut-in-opt": "FormatError", "pointer-to-itself": "FormatError", "pointer-beyond": "FormatError",
		"pointer-into-header": "FormatError", "reserved-label-kind": "FormatError", "dot-in-label": "FormatError", "two-opt": "FormatError",
		"class-chaos": "Refused", "class-any": "Success|web.qnet.=10.0.2.4", "zone-transfer": "Refused",
		"edns-version-1": "Success", // the rest of BADVERS stands in OPT
	}
	for name, raw := range seeds() {
		t.Run(name, func(t *testing.T) {
			what, _, got := testZone().answer(raw, overUDP)
			if what == drop {
				if want[name] != dropped {
					t.Errorf("dropped, want %s", want[name])
				}
				return
			}
			m := unpacked(t, got)
			if s := summary(m); s != want[name] || what != reply {
				t.Errorf("got %q (action %d), want %q", s, what, want[name])
			}
			if m.ID != testID || !m.Response || m.OpCode != dnsmessage.OpCode(raw[2]>>3&0xf) {
				t.Errorf("got header %#v", m.Header)
			}
		})
	}
}

// FuzzAnswer checks what must hold for every message, however malformed.
func FuzzAnswer(f *testing.F) {
	for _, raw := range seeds() {
		f.Add(raw, false)
	}
	for _, name := range []string{"web.qnet.", "many.qnet.", "none.qnet.", "wEB.", ".", "example.org.", "4.2.0.10.in-addr.arpa."} {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeALL, dnsmessage.TypePTR, dnsmessage.TypeSOA} {
			f.Add(packed(message(name, kind)), false)
			f.Add(packed(withEDNS(message(name, kind), 600)), true)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, tcp bool) {
		over := overUDP
		if tcp {
			over = overTCP
		}
		before := bytes.Clone(raw)
		what, q, got := testZone().answer(raw, over)
		if !bytes.Equal(raw, before) {
			t.Fatal("the query was changed")
		}
		switch what {
		case drop:
			if got != nil || len(raw) >= headerLen && raw[2]&0x80 == 0 {
				t.Fatalf("dropped a query, or answered %x", got)
			}
		case forward:
			checkForwarded(t, raw, q, got)
		case reply:
			checkReply(t, raw, q, got, over)
		}
	})
}

func checkForwarded(t *testing.T, raw []byte, q query, got []byte) {
	name := answers.Lower(q.question().Name.String())
	if got != nil || strings.HasSuffix("."+name, ".qnet.") || strings.HasSuffix(name, ".2.0.10.in-addr.arpa.") || strings.HasSuffix(name, "."+net6) {
		t.Fatalf("forwarded %q, or answered %x", name, got)
	}
	// What a server sends back to the same question must be taken.
	back := bytes.Clone(raw)
	back[2] |= 0x80
	if id := uint16(raw[0])<<8 | uint16(raw[1]); !q.answeredBy(back, id) || q.answeredBy(back, id+1) {
		t.Fatal("answer not recognised")
	}
	// And if it is too long, be cut to something that is not.
	cut := unpacked(t, q.fit(append(back, make([]byte, maxUDP)...), overUDP))
	if !cut.Truncated || !slices.Equal(cut.Questions, q.questions) {
		t.Fatalf("cut to %#v", cut)
	}
}

func checkReply(t *testing.T, raw []byte, q query, got []byte, over transport) {
	if len(got) > q.limit(over) {
		t.Fatalf("%d bytes, more than %d", len(got), q.limit(over))
	}
	m := unpacked(t, got)
	if !bytes.Equal(got[:2], raw[:2]) || !m.Response || !m.RecursionAvailable || m.OpCode != q.header.OpCode {
		t.Fatalf("got header %#v", m.Header)
	}
	if !slices.Equal(m.Questions, q.questions) {
		t.Fatalf("got questions %v, want %v", m.Questions, q.questions)
	}
	for _, r := range m.Answers {
		if _, isSOA := r.Body.(*dnsmessage.SOAResource); !isSOA && r.Header.Name != q.question().Name {
			t.Fatalf("got a record of %v, asked for %v", r.Header.Name, q.question().Name)
		}
	}
	if (len(m.Additionals) == 1) != (q.opt != nil) {
		t.Fatalf("got additionals %v for OPT %v", m.Additionals, q.opt)
	}
}
