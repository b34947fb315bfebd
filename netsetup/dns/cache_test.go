package dns

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// aliveFor is an answer with a record of each of the lives, in seconds.
func aliveFor(t testing.TB, lives ...uint32) []byte {
	t.Helper()
	m := message("example.org.", dnsmessage.TypeA)
	m.Response = true
	for _, ttl := range lives {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: ttl},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
		})
	}
	return packed(withEDNS(m, 1232))
}

func TestCacheAsksOnce(t *testing.T) {
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		answer := aliveFor(t, 300)
		copy(answer, raw[:2])
		return [][]byte{answer}
	})
	b := startServer(t, testLimits(), up)
	for _, over := range []transport{overUDP, overTCP} {
		for range 3 {
			if got := b.exchange(t, over, message("example.org.", dnsmessage.TypeA)); len(got.Answers) != 1 {
				t.Fatalf("got %s", text(got))
			}
		}
	}
	if n := up.count(); n != 2 {
		t.Errorf("asked %d times, want once for each transport", n)
	}
}

func TestCacheCountsLivesDown(t *testing.T) {
	var c cache
	servers := []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	query := packed(message("example.org.", dnsmessage.TypeA))
	c.put(query, aliveFor(t, 300, 20), overUDP, servers)
	kept := c.answers[cacheKey(query, overUDP)]
	if left := time.Until(kept.until); left > 20*time.Second || len(kept.ttls) != 2 {
		t.Fatalf("kept for %s, with %d lives", left, len(kept.ttls))
	}
	kept.stored = kept.stored.Add(-5 * time.Second)
	c.answers[cacheKey(query, overUDP)] = kept
	var m dnsmessage.Message
	query[0] ^= 1
	if err := m.Unpack(c.get(query, overUDP, servers)); err != nil {
		t.Fatal(err)
	}
	if m.ID != uint16(query[0])<<8|uint16(query[1]) || m.Answers[0].Header.TTL != 295 || m.Answers[1].Header.TTL != 15 {
		t.Errorf("got id %d, lives %d and %d", m.ID, m.Answers[0].Header.TTL, m.Answers[1].Header.TTL)
	}
	if c.get(query, overTCP, servers) != nil || c.get(query, overUDP, append(servers, servers...)) != nil {
		t.Error("another transport or another list of servers gets the answer, too")
	}
	kept.until = time.Now()
	c.answers[cacheKey(query, overUDP)] = kept
	if c.get(query, overUDP, servers) != nil {
		t.Error("an old answer is given")
	}
}

func TestCacheKeepsWholeAnswersOnly(t *testing.T) {
	servers := []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	query := packed(message("example.org.", dnsmessage.TypeA))
	truncated, failed := aliveFor(t, 300), aliveFor(t, 300)
	truncated[2] |= 2
	failed[3] |= byte(dnsmessage.RCodeServerFailure)
	whole := aliveFor(t, 300)
	for name, answer := range map[string][]byte{
		"without records": aliveFor(t), "truncated": truncated, "failed": failed, "of no life": aliveFor(t, 300, 0),
		"cut off": whole[:len(whole)-1], "cut in a record": whole[:50], "a loop of labels": append(bytes.Clone(whole[:headerLen]), 0xc0),
	} {
		var c cache
		if c.put(query, answer, overUDP, servers); len(c.answers) != 0 {
			t.Errorf("an answer %s is kept", name)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	servers := []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	for i := range 2 * maxCached {
		query := packed(message(fmt.Sprintf("n%d.example.org.", i), dnsmessage.TypeA))
		if c.put(query, aliveFor(t, 300), overUDP, servers); c.get(query, overUDP, servers) == nil {
			t.Fatal("a new answer is not kept")
		}
	}
	if len(c.answers) != maxCached {
		t.Errorf("%d answers are kept, want %d", len(c.answers), maxCached)
	}
}
