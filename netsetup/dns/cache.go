package dns

import (
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/answers"
)

const (
	maxCached = 256         // answers, none longer than offeredUDP: 400 KiB at most
	maxAge    = time.Minute // of an answer, whatever its records allow
)

// cache keeps answers of name servers for as long as their records may live. Its key is
// the whole query but the id: a query with another flag, case or EDNS option has another
// answer. The zero value is empty.
type cache struct {
	mu      sync.Mutex
	servers []netip.Addr           // guarded by mu; the answers are theirs
	answers map[string]cachedReply // guarded by mu
}

type cachedReply struct {
	raw    []byte
	ttls   []int // places of the TTLs in raw
	stored time.Time
	until  time.Time
}

// get returns a copy of the answer to a query, with the query's id and with TTLs that
// are less by the answer's age; nil where there is none.
func (c *cache) get(query []byte, over transport, servers []netip.Addr) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.answers[cacheKey(query, over)]
	now := time.Now()
	if !ok || !now.Before(kept.until) || !slices.Equal(c.servers, servers) {
		return nil
	}
	raw := slices.Clone(kept.raw)
	copy(raw, query[:2])
	age := uint32(now.Sub(kept.stored) / time.Second)
	for _, at := range kept.ttls {
		binary.BigEndian.PutUint32(raw[at:], binary.BigEndian.Uint32(raw[at:])-age)
	}
	return raw
}

// put keeps an answer that has records and is whole. It forgets the answers of other
// servers.
func (c *cache) put(query, answer []byte, over transport, servers []netip.Addr) {
	ttls, least, ok := ttlsOf(answer)
	if !ok || least == 0 || len(answer) > offeredUDP {
		return
	}
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil || !slices.Equal(c.servers, servers) {
		c.servers, c.answers = servers, map[string]cachedReply{}
	}
	c.makeRoom(now)
	c.answers[cacheKey(query, over)] = cachedReply{
		raw: slices.Clone(answer), ttls: ttls, stored: now, until: now.Add(min(maxAge, time.Duration(least)*time.Second)),
	}
}

// makeRoom forgets the answers that are too old, or else any one.
func (c *cache) makeRoom(now time.Time) {
	if len(c.answers) < maxCached {
		return
	}
	victim := ""
	for key, kept := range c.answers {
		if victim = key; !now.Before(kept.until) {
			delete(c.answers, key)
		}
	}
	if len(c.answers) == maxCached {
		delete(c.answers, victim)
	}
}

func cacheKey(query []byte, over transport) string { return string(over) + string(query[2:]) }

// ttlsOf finds the places of the records' TTLs in an answer, and the least TTL. ok
// reports whether the answer may be kept: it is a success, is not truncated, has
// records, and is whole.
func ttlsOf(raw []byte) (at []int, least uint32, ok bool) {
	const truncated, rcode = 2, 0xf
	if len(raw) < headerLen || raw[2]&truncated != 0 || raw[3]&rcode != 0 || binary.BigEndian.Uint16(raw[6:]) == 0 {
		return nil, 0, false
	}
	least = math.MaxUint32
	ok = answers.Each(raw, func(r answers.Record) {
		if r.Kind != dnsmessage.TypeOPT { // its TTL are flags
			at = append(at, r.TTL)
			least = min(least, binary.BigEndian.Uint32(raw[r.TTL:]))
		}
	})
	return at, least, ok
}
