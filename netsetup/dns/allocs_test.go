package dns

import (
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// hotPaths are what a guest's query costs, and the allocations it makes today.
func hotPaths(tb testing.TB) map[string]struct {
	allocs float64
	run    func()
} {
	tb.Helper()
	z := testZone()
	local := packed(message("web.qnet.", dnsmessage.TypeA))
	var c cache
	servers := []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	asked := packed(message("example.org.", dnsmessage.TypeA))
	c.put(asked, aliveFor(tb, 300), overUDP, servers)
	return map[string]struct {
		allocs float64
		run    func()
	}{
		"a VM's name": {9, func() { z.answer(local, overUDP) }},
		"an old name": {1, func() { c.get(asked, overUDP, servers) }},
		"to look for": {3, func() { z.answer(asked, overUDP) }},
		"to remember": {4, func() { c.put(asked, c.get(asked, overUDP, servers), overUDP, servers) }},
	}
}

// More work for the garbage collector is noticed here, whatever the machine's speed.
// The counts are those under the race detector, which makes a few of its own.
func TestAllocations(t *testing.T) {
	for name, path := range hotPaths(t) {
		if got := testing.AllocsPerRun(100, path.run); got > path.allocs {
			t.Errorf("%s: %v allocations, want %v at most", name, got, path.allocs)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	for name, path := range hotPaths(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				path.run()
			}
		})
	}
}
