package clerk

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/profiles/reach"
)

const (
	// rulingTime bounds the wait for the keeper before an answer leaves: without its word no address
	// would pass.
	rulingTime = 100 * time.Millisecond
	// A guest with a limit asks at most so many questions in a second, for longer than questionBurst
	// lasts: data may leave in the names that it asks for.
	questionsEach = 50
	questionBurst = 300
	// toldEach and toldBurst bound what a clerk tells of refused names, likewise.
	toldEach  = 5
	toldBurst = 50
)

// filter is the dns.Filter of a clerk.
type filter struct {
	known func(netip.Addr) bool // whether the address is a VM's, or the host's
	say   func(word)

	mu       sync.Mutex // guards what follows
	cautious bool
	of       map[netip.Addr]*limited
	waiting  map[uint64]chan dns.Ruling
	last     uint64 // ID
}

// limited is a guest with a limit.
type limited struct {
	limit
	policy          reach.Policy
	questions, told bucket
}

// bucket says when something happens too often. The zero value is full.
type bucket struct {
	used float64
	last time.Time
}

// take reports whether there is one left, of burst at most and of each more every second.
func (b *bucket) take(now time.Time, each, burst float64) bool {
	b.used = max(0, b.used-each*now.Sub(b.last).Seconds())
	b.last = now
	if b.used+1 > burst {
		return false
	}
	b.used++
	return true
}

func newFilter(known func(netip.Addr) bool, say func(word)) *filter {
	return &filter{known: known, say: say, of: map[netip.Addr]*limited{}, waiting: map[uint64]chan dns.Ruling{}}
}

// do does what an order says of names.
func (f *filter) do(o order) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Serve != nil {
		f.cautious = o.Serve.Cautious
	}
	for _, mac := range o.Release {
		f.drop(mac.String())
	}
	if o.Limit != nil {
		f.drop(o.Limit.MAC.String())
		g := &limited{limit: *o.Limit}
		for _, n := range o.Limit.Names {
			g.policy.Entries = append(g.policy.Entries, reach.Entry{Name: n})
		}
		for _, a := range o.Limit.Addresses {
			f.of[a] = g
		}
	}
	if o.Ruled != nil {
		if wait := f.waiting[o.Ruled.ID]; wait != nil {
			wait <- o.Ruled.Ruling // of one place
			delete(f.waiting, o.Ruled.ID)
		}
	}
}

func (f *filter) drop(mac string) {
	for a, g := range f.of {
		if g.MAC.String() == mac {
			delete(f.of, a)
		}
	}
}

// Asks implements dns.Filter.
func (f *filter) Asks(client netip.Addr, name string) dns.Ruling {
	f.mu.Lock()
	g, strict := f.of[client], f.cautious || len(f.of) > 0
	f.mu.Unlock()
	switch {
	case g != nil:
		return f.rule(g, name)
	case strict && !f.known(client):
		return dns.Failed
	}
	return dns.Free
}

func (f *filter) rule(g *limited, name string) dns.Ruling {
	f.mu.Lock()
	now := time.Now()
	asks := g.questions.take(now, questionsEach, questionBurst)
	allowed := len(g.policy.Find(name)) > 0
	tells := !allowed && g.told.take(now, toldEach, toldBurst)
	f.mu.Unlock()
	if tells {
		f.say(word{Refused: &refusal{MAC: g.MAC, Name: name}})
	}
	switch {
	case !allowed:
		return dns.Refused
	case !asks:
		return dns.Failed
	}
	return dns.Checked
}

// Answers implements dns.Filter: the keeper opens the way to the addresses, or does not.
func (f *filter) Answers(client netip.Addr, name string, addresses []netip.Addr, ttl time.Duration) dns.Ruling {
	wait := make(chan dns.Ruling, 1)
	f.mu.Lock()
	g := f.of[client]
	f.last++
	id := f.last
	f.waiting[id] = wait
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.waiting, id)
		f.mu.Unlock()
	}()
	if g == nil { // its VM left meanwhile
		return dns.Failed
	}
	f.say(word{Answer: &answer{ID: id, MAC: g.MAC, Name: name, Addresses: slices.Clone(addresses), TTL: int64(ttl / time.Second)}})
	select {
	case r := <-wait:
		return r
	case <-time.After(rulingTime):
		return dns.Failed
	}
}
