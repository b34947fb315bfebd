package upkeep

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/plan"
)

// woken counts the looks at the host that events lead to, of the task uplinks and the task
// pins. seen are all events of routes; fences are those of fence.
type woken struct {
	uplinks, pins, seen, fences atomic.Int32
}

// fenceRoute is a route that leads nowhere: all events before that of its end have been counted
// once that one is.
const fenceRoute = "203.0.113.9"

func isFence(m netlink.Message) bool {
	return bytes.Contains(m.Data, netip.MustParseAddr(fenceRoute).AsSlice())
}

// fence waits until all events of what was done so far are counted.
func (w *woken) fence(t *testing.T) {
	t.Helper()
	before := w.fences.Load()
	lab.Sh(t, "ip route add blackhole "+fenceRoute+"; ip route del blackhole "+fenceRoute)
	lab.Eventually(t, 5*time.Second, "the last event", func() bool { return w.fences.Load() == before+2 })
}

// listenIn starts events for a network that has uplink eth0 and prefix 10.77.0.0/24.
func listenIn(t *testing.T) *woken {
	t.Helper()
	e, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	w := &woken{}
	count := func(n *atomic.Int32, matters func(netlink.Message) bool) func(netlink.Message) bool {
		return func(m netlink.Message) bool {
			if isFence(m) || !matters(m) {
				return false
			}
			n.Add(1)
			return true
		}
	}
	ways := waysOf(plan.Plan{Uplinks: []string{"eth0"}})
	e.subscribeIf(links|addresses|addresses6|routes4|routes6|rules, count(&w.uplinks, ways.matters))
	e.subscribeIf(routes4|rules, count(&w.pins, about(netip.MustParsePrefix("10.77.0.0/24"))))
	e.subscribeIf(routes4|routes6, count(&w.seen, func(netlink.Message) bool { return true }))
	e.subscribeIf(routes4, func(m netlink.Message) bool { // the last: the others have counted the event
		if isFence(m) {
			w.fences.Add(1)
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w
}

// None of a routing daemon's changes leads to a look at the host, whatever their number, and
// each change that may matter does.
func TestRouteChangesThatMatter(t *testing.T) {
	lab.Require(t, lab.Program("ip"))
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, "ip link add d0 type veth peer name d1; ip link set d1 up; ip addr add 198.51.100.1/24 dev d0; ip addr add 2001:db8::1/64 dev eth0 nodad")
		w := listenIn(t)
		churn := `for i in $(seq 25); do
echo route replace 20.9.$i.0/24 via 192.0.2.1 proto bird; echo route del 20.9.$i.0/24
echo route replace 2a00:9:$i::/48 via 2001:db8::2 dev eth0; echo route del 2a00:9:$i::/48; done | ip -batch -`
		// The kernel tells of a link's carrier some time after the link is up.
		const up = `until [ "$(cat /sys/class/net/d0/operstate)" = up ]; do sleep 0.01; done`
		for _, c := range []struct {
			name, script  string
			events        int32
			uplinks, pins bool
		}{
			{"a routing daemon", churn, 100, false, false},
			{"a link's first route", "ip link set d0 up; " + up, 1, true, false},
			{"more by that link", "ip route add 20.10.0.0/16 dev d0; ip route add 20.11.0.0/16 proto bird nexthop dev d0 nexthop via 192.0.2.1", 2, false, false},
			{"a default route", "ip route add default dev d0 metric 99", 1, true, true},
			{"half of one", "ip route add 128.0.0.0/1 dev eth0", 1, true, false},
			{"a default route less", "ip route del default dev d0", 1, true, true},
			{"an IPv6 one", "ip -6 route add default via 2001:db8::2", 1, true, false},
			{"a route that takes the prefix", "ip route add 10.0.0.0/8 via 192.0.2.1", 1, true, true},
			{"a route that takes a guest", "ip route add 10.77.0.9/32 via 192.0.2.1", 1, false, true},
			{"a pin", "ip route add 10.77.0.8/32 dev eth0 proto 113", 1, false, false},
			{"a pin less", "ip route del 10.77.0.8/32 dev eth0 proto 113", 1, false, true},
			{"a neighbor of the prefix", "ip route add 10.77.1.0/24 via 192.0.2.1", 1, false, false},
			{"a rule", "ip rule add priority 50 lookup 100", 0, true, true},
			{"an address", "ip addr add 198.51.100.2/24 dev d0", 1, true, false},
			{"a link that comes back", "ip link set d0 down; ip link set d0 up; " + up + "; ip route add 20.12.0.0/16 dev d0", 1, true, false},
			{"a routing daemon again", churn, 100, false, false},
		} {
			w.uplinks.Store(0)
			w.pins.Store(0)
			w.seen.Store(0)
			lab.Sh(t, c.script)
			lab.Eventually(t, 5*time.Second, fmt.Sprintf("events of %s", c.name), func() bool {
				return w.seen.Load() >= c.events && (w.uplinks.Load() > 0 || !c.uplinks) && (w.pins.Load() > 0 || !c.pins)
			})
			w.fence(t)
			if u, p := w.uplinks.Load(), w.pins.Load(); u > 0 != c.uplinks || p > 0 != c.pins {
				t.Errorf("%s: %d looks for uplinks, wanted %t; %d for pins, wanted %t", c.name, u, c.uplinks, p, c.pins)
			}
		}
	})
}

// ways stay small, and take a message that is cut off for none that matters.
func TestWaysAreBounded(t *testing.T) {
	w := waysOf(plan.Plan{Uplinks: []string{"no such link"}})
	for i := range 3 * knownLimit {
		m := append(make([]byte, unix.SizeofRtMsg), 8, 0, 30, 0, byte(i), byte(i>>8), 1, 0) // RTA_NH_ID
		m[0], m[1] = unix.AF_INET, 24
		event := netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWROUTE}, Data: m}
		if !w.matters(event) || w.matters(event) {
			t.Fatalf("nexthop object %d: the first of its routes does not matter, or the second does", i)
		}
		if len(w.known) > knownLimit {
			t.Fatalf("%d entries", len(w.known))
		}
	}
	for _, kind := range []netlink.HeaderType{unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_NEWLINK} {
		for n := range unix.SizeofRtMsg {
			if w.matters(netlink.Message{Header: netlink.Header{Type: kind}, Data: []byte(strings.Repeat("\x02", n))}) {
				t.Errorf("message %d of %d bytes matters", kind, n)
			}
		}
	}
}

// Looks that follow each other without an end cost 2 % of a CPU; the first ones, and those of
// an ordinary host, do not wait.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		cost    time.Duration // of each look
		atOnce  int           // looks without a pause
		longest time.Duration
		atLeast time.Duration // of all pauses of 20 looks
	}{
		{time.Millisecond, 20, 0, 0},
		{60 * time.Millisecond, 5, 15 * time.Second, 15 * 50 * 60 * time.Millisecond},
		{250 * time.Millisecond, 1, 15 * time.Second, 15 * 12 * time.Second},
		{time.Minute, 0, maxPause, 20 * maxPause}, // a process that is stopped meanwhile
	} {
		p, all, free := pace{}, time.Duration(0), 0
		for range 20 {
			pause := p.after(c.cost)
			p.paid = p.paid.Add(-pause) // as if it were over
			if all += pause; all == 0 {
				free++
			}
			if pause > c.longest+time.Millisecond {
				t.Errorf("looks of %s: a pause of %s", c.cost, pause)
			}
		}
		if free != c.atOnce || all < c.atLeast-time.Second {
			t.Errorf("looks of %s: %d at once, pauses of %s; want %d, and %s", c.cost, free, all, c.atOnce, c.atLeast)
		}
	}
	if cost := measure(func() {
		for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
		}
	}); cost < 5*time.Millisecond {
		t.Errorf("20 ms of work cost %s", cost)
	}
}
