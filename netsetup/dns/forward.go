package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/answers"
)

// forwarder passes queries on to the host's name servers. It is safe for
// concurrent use.
type forwarder struct {
	self   netip.Addr // this server, which is never asked
	conf   *resolvConf
	limits limits
	asked  crowd[key]
	cache  cache

	log        *slog.Logger
	looped     occasion
	noUpstream occasion
	rebound    occasion
}

// cached returns the reply to a query from the cache, or nil.
func (f *forwarder) cached(raw []byte, q query, over transport) []byte {
	kept := f.cache.get(raw, over, f.conf.current())
	if kept == nil {
		return nil
	}
	return q.fit(kept, over)
}

// answer returns the reply to a query: a server's, or SERVFAIL. It takes limits.total
// at most.
func (f *forwarder) answer(ctx context.Context, raw []byte, q query, over transport) []byte {
	failure := response{rcode: dnsmessage.RCodeServerFailure}
	k := key{answers.Lower(q.question().Name.String()), q.question().Type}
	if !f.asked.enter(k, f.limits.sameQuestion) {
		if f.looped.due(f.limits.warnEvery) {
			f.log.Warn("one question is in flight too often; does a name server of the host send it back to us?",
				"name", k.name, "type", k.kind.String(), "limit", f.limits.sameQuestion)
		}
		return q.pack(failure, over)
	}
	defer f.asked.leave(k)

	ctx, cancel := context.WithTimeout(ctx, f.limits.total)
	defer cancel()
	servers := f.conf.current()
	got := f.relay(ctx, raw, q, over)
	if got == nil {
		return q.pack(failure, over)
	}
	if a := answers.Rebinds(k.name, got); a.IsValid() {
		if f.rebound.due(f.limits.warnEvery) {
			f.log.Warn("a public name has an address that leads a guest to itself: its answer is dropped", "name", k.name, "address", a.String())
		}
		return q.pack(response{}, over)
	}
	copy(got, raw[:2]) // the client's id
	f.cache.put(raw, got, over, servers)
	return q.fit(got, over)
}

// relay asks the servers in turn, and asks the silent ones again until ctx ends: a
// packet may be lost, and a server may need longer for its first answer. It returns nil
// if no server answers.
func (f *forwarder) relay(ctx context.Context, raw []byte, q query, over transport) []byte {
	servers := f.servers()
	var refusal []byte
	for len(servers) > 0 && refusal == nil && ctx.Err() == nil {
		var silent []netip.AddrPort
		for _, server := range servers {
			got, err := f.ask(ctx, server, raw, q, f.upstream(over))
			switch {
			case err == nil && !refuses(got):
				return got
			case err == nil && refusal == nil:
				refusal = got
			case timedOut(err):
				silent = append(silent, server)
			}
		}
		servers = silent
	}
	return refusal
}

// servers returns the servers of resolv.conf without this one, so that no query comes
// back for ever.
func (f *forwarder) servers() []netip.AddrPort {
	var servers []netip.AddrPort
	for _, addr := range f.conf.current() {
		if addr != f.self {
			servers = append(servers, netip.AddrPortFrom(addr, f.limits.upstreamPort))
		}
	}
	if servers == nil && f.noUpstream.due(f.limits.warnEvery) {
		f.log.Warn("no name server to forward to", "file", f.conf.path)
	}
	return servers
}

// refuses reports whether the server refuses, so that another one may have an answer.
func refuses(raw []byte) bool {
	rcode := rcodeOf(raw)
	return rcode == dnsmessage.RCodeServerFailure || rcode == dnsmessage.RCodeRefused
}

func rcodeOf(raw []byte) dnsmessage.RCode { return dnsmessage.RCode(raw[3] & 0xf) }

// upstream returns the transport by which to ask for a client that asked over another: TCP
// also for UDP where the host's resolv.conf says so.
func (f *forwarder) upstream(over transport) transport {
	if f.conf.tcpOnly() {
		return overTCP
	}
	return over
}

func timedOut(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// key is a question, of which a crowd counts the queries.
type key struct {
	name string // lower case
	kind dnsmessage.Type
}

// crowd counts what is in flight for each key. The zero value is empty.
type crowd[K comparable] struct {
	mu    sync.Mutex
	count map[K]int // guarded by mu; has no zeros
}

// enter counts one more of k, unless most are in flight already.
func (c *crowd[K]) enter(k K, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[k] >= most {
		return false
	}
	if c.count == nil {
		c.count = map[K]int{}
	}
	c.count[k]++
	return true
}

func (c *crowd[K]) leave(k K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[k]--; c.count[k] == 0 {
		delete(c.count, k)
	}
}

// occasion limits how often a warning is logged. The zero value is due.
type occasion struct {
	mu   sync.Mutex
	last time.Time // guarded by mu
}

// due reports whether every has passed since it last reported true.
func (o *occasion) due(every time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); o.last.IsZero() || now.Sub(o.last) >= every {
		o.last = now
		return true
	}
	return false
}
