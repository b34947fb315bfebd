package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/answers"
)

// answerOf is an answer to the query with these bodies, each with the name that was asked.
func answerOf(raw []byte, bodies ...dnsmessage.ResourceBody) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		panic(err)
	}
	m.Response = true
	for _, body := range bodies {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}, Body: body,
		})
	}
	return packed(m)
}

// addressRecord is an A or AAAA record.
func addressRecord(text string) dnsmessage.ResourceBody {
	a := netip.MustParseAddr(text)
	if a.Is4() {
		return &dnsmessage.AResource{A: a.As4()}
	}
	return &dnsmessage.AAAAResource{AAAA: a.As16()}
}

// https is an HTTPS record of the name itself with one parameter (RFC 9460, 2.2).
func https(key byte, value ...byte) dnsmessage.ResourceBody {
	return &dnsmessage.UnknownResource{Type: answers.TypeHTTPS, Data: append([]byte{0, 1, 0, 0, 1, 0, 3, 2, 'h', '2', 0, key, 0, byte(len(value))}, value...)}
}

// Promise P15: the owner of a public name cannot lead a guest's programs to the guest itself.
// The answer has no records then, over both transports, and is not kept.
func TestRebindingAnswersAreDropped(t *testing.T) {
	local := netip.MustParseAddr("::1").As16()
	answers := map[string][]dnsmessage.ResourceBody{
		"loopback":      {addressRecord("127.0.0.1")},
		"other":         {addressRecord("127.8.9.10")},
		"six":           {addressRecord("::1")},
		"mapped":        {addressRecord("::ffff:127.0.0.1")},
		"any":           {addressRecord("0.0.0.0")},
		"any-six":       {addressRecord("::")},
		"link-local":    {addressRecord("169.254.169.254")},
		"six-local":     {addressRecord("fe80::1")},
		"second":        {addressRecord("192.0.2.1"), addressRecord("127.0.0.1")},
		"behind-alias":  {&dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("a.example.")}, addressRecord("127.0.0.1")},
		"hint":          {https(answers.ParamIPv4, 192, 0, 2, 1, 127, 0, 0, 1)},
		"hint-six":      {https(answers.ParamIPv6, local[:]...)},
		"ok-public":     {addressRecord("192.0.2.1"), addressRecord("2001:db8::1")},
		"ok-lan":        {addressRecord("192.168.1.2"), addressRecord("10.0.2.4"), addressRecord("fd00::1")},
		"ok-text":       {&dnsmessage.TXTResource{TXT: []string{"\x7f\x00\x00\x01"}}},
		"ok-hint":       {https(answers.ParamIPv4, 192, 0, 2, 1)},
		"ok-key":        {https(7, 127, 0, 0, 1)},
		"ok.localhost":  {addressRecord("127.0.0.1")},
		"xok-localhost": {addressRecord("127.0.0.1")},
	}
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		var m dnsmessage.Message
		if err := m.Unpack(raw); err != nil {
			return nil
		}
		name := m.Questions[0].Name.String()
		return [][]byte{answerOf(raw, answers[strings.TrimSuffix(strings.TrimSuffix(name, "."), ".example.org")]...)}
	})
	b := startServer(t, testLimits(), up)
	for name, bodies := range answers {
		want := 0
		if strings.HasPrefix(name, "ok") {
			want = len(bodies)
		}
		fqdn := name + ".example.org."
		if strings.HasSuffix(name, ".localhost") {
			fqdn = name + "."
		}
		for _, over := range []transport{overUDP, overTCP, overUDP} {
			got := b.exchange(t, over, message(fqdn, dnsmessage.TypeALL))
			if len(got.Answers) != want || got.RCode != dnsmessage.RCodeSuccess || len(got.Questions) != 1 {
				t.Errorf("%s over %s: got %v with %d records, want %d", name, over, got.RCode, len(got.Answers), want)
			}
		}
	}
	if got := strings.Count(b.log.String(), "leads a guest to itself"); got != 1 {
		t.Errorf("warned %d times, want once:\n%s", got, b.log)
	}
}

// A client that floods the name servers of the host leaves another one its answers.
func TestFloodLeavesOtherClientsRoom(t *testing.T) {
	release := make(chan struct{})
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		if strings.Contains(string(raw), "flood") {
			<-release
		}
		return [][]byte{upstreamAnswer(raw, 0, "up")}
	})
	defer close(release)
	b := startServer(t, testLimits(), up)
	attacker, other := b.at.Addr().Next().Next(), b.at.Addr().Next()
	conn := dialFrom(t, overUDP, attacker, b.at)
	for i := range 2 * b.limits.inFlight {
		if _, err := conn.Write(packed(message(fmt.Sprintf("%d.flood.", i), dnsmessage.TypeTXT))); err != nil {
			t.Fatal(err)
		}
		if i%32 == 31 { // so that the socket's buffer has room for all
			eventually(t, "they are received", func() bool { return int(b.received.Load()) == i+1 })
		}
	}
	eventually(t, "as many are forwarded as one client may have", func() bool { return up.count() == b.limits.perClient })
	for range b.limits.fromClient {
		if _, err := roundTrip(dialFrom(t, overTCP, attacker, b.at), overTCP, packed(message("web.qnet.", dnsmessage.TypeA))); err != nil {
			t.Fatal(err)
		}
	}
	if err := isClosed(dialFrom(t, overTCP, attacker, b.at)); err != nil {
		t.Errorf("one connection of the client too many: %v", err)
	}
	for _, over := range []transport{overUDP, overTCP} {
		got, err := roundTrip(dialFrom(t, over, other, b.at), over, packed(message(string(over)+".example.", dnsmessage.TypeTXT)))
		if err != nil || text(unpacked(t, got)) != "up" {
			t.Errorf("another client over %s: %v", over, err)
		}
	}
	if n := up.count(); n != b.limits.perClient+2 {
		t.Errorf("forwarded %d, want %d", n, b.limits.perClient+2)
	}
}

// FuzzRecords feeds answers: what is read lies within them.
func FuzzRecords(f *testing.F) {
	raw := packed(message("example.org.", dnsmessage.TypeALL))
	f.Add(answerOf(raw, addressRecord("127.0.0.1"), addressRecord("::1"), https(answers.ParamIPv4, 127, 0, 0, 1)))
	f.Add(answerOf(raw, &dnsmessage.UnknownResource{Type: answers.TypeSVCB, Data: []byte{0, 1, 0xc0}}))
	f.Add([]byte{headerLen: 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		answers.Each(raw, func(r answers.Record) {
			if r.TTL < headerLen || r.TTL+6+len(r.Data) > len(raw) {
				t.Fatalf("a record at %d with %d bytes, of %d", r.TTL, len(r.Data), len(raw))
			}
			if n := len(r.Addresses()); n*4 > len(r.Data) {
				t.Fatalf("%d addresses in %d bytes", n, len(r.Data))
			}
		})
		answers.Rebinds("example.org.", raw)
	})
}
