package dns

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestForwardIsByteForByte(t *testing.T) {
	answers := make(chan []byte, 1)
	up := startUpstream(t, 0, func(raw []byte, over transport) [][]byte {
		answer := upstreamAnswer(raw, dnsmessage.RCodeNameError, string(over))
		answers <- bytes.Clone(answer)
		return [][]byte{answer}
	})
	b := startServer(t, testLimits(), up)
	raw := packed(withEDNS(message("ExaMple.org.", dnsmessage.TypeTXT), 1400))
	for i, over := range []transport{overUDP, overTCP} {
		got, err := roundTrip(b.dial(t, over), over, raw)
		if err != nil {
			t.Fatal(err)
		}
		if asked := up.queries()[i]; !bytes.Equal(asked[2:], raw[2:]) {
			t.Errorf("%s: asked %x, want %x", over, asked, raw)
		}
		if answer := <-answers; !bytes.Equal(got[2:], answer[2:]) || !bytes.Equal(got[:2], raw[:2]) {
			t.Errorf("%s: got %x, want %x under the client's id", over, got, answer)
		}
	}
}

func TestForwardUsesFreshIDsAndPorts(t *testing.T) {
	up := startUpstream(t, 0, answerWith(dnsmessage.RCodeSuccess, "up"))
	b := startServer(t, testLimits(), up)
	ids := map[string]bool{}
	for i := range 8 { // a name asked before would not be asked again
		b.ask(t, fmt.Sprintf("n%d.example.org.", i))
	}
	for _, raw := range up.queries() {
		ids[string(raw[:2])] = true
	}
	up.mu.Lock()
	defer up.mu.Unlock()
	if len(ids) < 6 || len(up.ports) < 6 {
		t.Errorf("8 queries had %d ids and %d ports", len(ids), len(up.ports))
	}
}

// What a server says when the one before it says or does something else.
func TestForwardServersInTurn(t *testing.T) {
	quick := testLimits()
	quick.perServer = 50 * time.Millisecond
	servfail, refused := dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused
	for _, test := range []struct {
		name   string
		limits limits
		first  handler // nil: no server listens
		second handler
		want   string
	}{
		{"first-is-enough", testLimits(), answerWith(0, "one"), answerWith(0, "two"), "one"},
		{"no-such-name-is-an-answer", testLimits(), answerWith(dnsmessage.RCodeNameError, "one"), answerWith(0, "two"), "NameError one"},
		{"first-fails", testLimits(), answerWith(servfail, "one"), answerWith(0, "two"), "two"},
		{"first-refuses", testLimits(), answerWith(refused, "one"), answerWith(0, "two"), "two"},
		{"both-fail", testLimits(), answerWith(servfail, "one"), answerWith(refused, "two"), "ServerFailure one"},
		{"first-not-there", testLimits(), nil, answerWith(0, "two"), "two"},
		{"first-silent", quick, silent, answerWith(0, "two"), "two"},
		{"first-refuses-second-silent", quick, answerWith(refused, "one"), silent, "Refused one"},
		{"none-there", testLimits(), nil, nil, "ServerFailure"},
	} {
		for _, over := range []transport{overUDP, overTCP} {
			t.Run(test.name+"-"+string(over), func(t *testing.T) {
				t.Parallel()
				second := &upstream{at: freePort(t)}
				if test.second != nil {
					second = startUpstream(t, 0, test.second)
				}
				first := &upstream{at: freePort(t)}
				if test.first != nil {
					first = startUpstream(t, second.at.Port(), test.first)
				}
				b := startServer(t, test.limits, first, second)
				if got := text(b.exchange(t, over, message("example.org.", dnsmessage.TypeTXT))); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		}
	}
}

// Where the file names no server but this one, nobody is left to ask.
func TestForwardWithoutServers(t *testing.T) {
	b := startServer(t, testLimits())
	writeConf(t, b.conf, b.at.Addr())
	for range 2 {
		if got := b.ask(t, "example.org."); got != "ServerFailure" {
			t.Errorf("got %q, want ServerFailure", got)
		}
	}
	if got := strings.Count(b.log.String(), "no name server"); got != 1 {
		t.Errorf("warned %d times, want once:\n%s", got, b.log)
	}
}

func TestForwardGivesUp(t *testing.T) {
	t.Parallel()
	l := testLimits()
	l.perServer, l.total = 60*time.Millisecond, 300*time.Millisecond
	up := startUpstream(t, 0, silent)
	b := startServer(t, l, up)
	start := time.Now()
	if got := b.ask(t, "example.org."); got != "ServerFailure" {
		t.Errorf("got %q, want ServerFailure", got)
	}
	if took := time.Since(start); took < l.total || took > l.total+time.Second {
		t.Errorf("took %v, want %v", took, l.total)
	}
	if n := up.count(); n < 2 || n > 5 {
		t.Errorf("asked %d times, want again while there is time", n)
	}
}

func TestForwardIgnoresWrongAnswers(t *testing.T) {
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		forge := func(change func(*dnsmessage.Message)) []byte {
			var m dnsmessage.Message
			if err := m.Unpack(upstreamAnswer(raw, 0, "forged")); err != nil {
				panic(err)
			}
			change(&m)
			return packed(m)
		}
		return [][]byte{
			{},
			raw[:5],
			raw, // the query itself
			forge(func(m *dnsmessage.Message) { m.ID++ }),
			forge(func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("example.net.") }),
			forge(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeA }),
			forge(func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }),
			forge(func(m *dnsmessage.Message) { m.Questions = nil }),
			// Some servers do not keep the case.
			forge(func(m *dnsmessage.Message) {
				m.Questions[0].Name = dnsmessage.MustNewName("example.org.")
				m.Answers[0].Body = &dnsmessage.TXTResource{TXT: []string{"right"}}
			}),
		}
	})
	b := startServer(t, testLimits(), up)
	if got := b.ask(t, "eXample.org."); got != "right" {
		t.Errorf("got %q, want the right one", got)
	}
	// Over TCP only the server itself can be wrong, and is asked no more.
	if got := text(b.exchange(t, overTCP, message("example.org.", dnsmessage.TypeTXT))); got != "ServerFailure" {
		t.Errorf("got %q, want ServerFailure", got)
	}
}

func TestForwardNoticesNewServers(t *testing.T) {
	one := startUpstream(t, 0, answerWith(0, "one"))
	two := startUpstream(t, one.at.Port(), answerWith(0, "two"))
	l := testLimits()
	l.recheck = 20 * time.Millisecond
	b := startServer(t, l, one)
	if got := b.ask(t, "example.org."); got != "one" {
		t.Fatalf("got %q, want one", got)
	}
	writeConf(t, b.conf, two.at.Addr())
	eventually(t, "the new server answers", func() bool { return b.ask(t, "example.org.") == "two" })
}

func TestForwardTruncates(t *testing.T) {
	long := make([]string, 20)
	for i := range long {
		long[i] = strings.Repeat("x", 250)
	}
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		return [][]byte{upstreamAnswer(raw, 0, long[:int(raw[headerLen+1]-'0')]...)} // as many as the name says
	})
	b := startServer(t, testLimits(), up)
	for _, test := range []struct {
		name string
		edns int
		over transport
		tc   bool
	}{
		{"1.example.", 0, overUDP, false},
		{"4.example.", 0, overUDP, true},
		{"4.example.", 1232, overUDP, false},
		{"4.example.", 600, overUDP, true},
		{"4.example.", 0, overTCP, false},
		{"9.example.", 4096, overUDP, false},
	} {
		m := message(test.name, dnsmessage.TypeTXT)
		if test.edns > 0 {
			m = withEDNS(m, test.edns)
		}
		got := b.exchange(t, test.over, m)
		if got.Truncated != test.tc || len(got.Answers) == 0 != test.tc || len(got.Additionals) != len(m.Additionals) {
			t.Errorf("%+v: got TC %v, answers %d, additionals %d", test, got.Truncated, len(got.Answers), len(got.Additionals))
		}
	}
}

// An answer longer than the buffer for it is cut, not lost.
func TestForwardTruncatesTheLongest(t *testing.T) {
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		long := make([]string, 100)
		for i := range long {
			long[i] = strings.Repeat("x", 250)
		}
		return [][]byte{upstreamAnswer(raw, 0, long...)}
	})
	b := startServer(t, testLimits(), up)
	m := withEDNS(message("example.org.", dnsmessage.TypeTXT), 65535)
	if got := b.exchange(t, overUDP, m); !got.Truncated || len(got.Answers) > 0 {
		t.Errorf("got TC %v, %d answers", got.Truncated, len(got.Answers))
	}
	if got := b.exchange(t, overTCP, m); got.Truncated || len(got.Answers) != 1 {
		t.Errorf("got TC %v, %d answers", got.Truncated, len(got.Answers))
	}
}

func TestForwardSkipsItself(t *testing.T) {
	up := startUpstream(t, 0, answerWith(0, "up"))
	b := startServer(t, testLimits(), up)
	writeConf(t, b.conf, b.at.Addr(), netip.AddrFrom16(b.at.Addr().As16()), up.at.Addr())
	if got := b.ask(t, "example.org."); got != "up" {
		t.Errorf("got %q, want up", got)
	}
	if n := b.received.Load(); n != 1 {
		t.Errorf("received %d queries, want 1", n)
	}
}

func TestForwardBreaksLoop(t *testing.T) {
	var b *bench
	ready := make(chan struct{})
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		<-ready
		conn, err := net.Dial("udp4", b.at.String())
		if err != nil {
			return nil
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(3 * time.Second))
		got, err := roundTrip(conn, overUDP, raw)
		if err != nil {
			return nil
		}
		return [][]byte{got}
	})
	l := testLimits()
	l.sameQuestion = 5
	b = startServer(t, l, up)
	close(ready)
	for range 2 {
		if got := b.ask(t, "example.org."); got != "ServerFailure" {
			t.Errorf("got %q, want ServerFailure", got)
		}
	}
	if n := up.count(); n != 2*l.sameQuestion {
		t.Errorf("went round %d times, want %d", n, 2*l.sameQuestion)
	}
	if n := strings.Count(b.log.String(), "in flight too often"); n != 1 {
		t.Errorf("warned %d times, want once:\n%s", n, b.log)
	}
	b.forwarder.asked.mu.Lock()
	defer b.forwarder.asked.mu.Unlock()
	if len(b.forwarder.asked.count) != 0 {
		t.Errorf("still counted: %v", b.forwarder.asked.count)
	}
}

func TestOccasion(t *testing.T) {
	var o occasion
	if !o.due(time.Hour) || o.due(time.Hour) || !o.due(0) {
		t.Error("want due at first, then not within the hour, then at once")
	}
}
