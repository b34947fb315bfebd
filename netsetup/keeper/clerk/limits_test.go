package clerk

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/netsetup/dns"
)

// A guest with a limit gets the names of its list, a VM without one all names, and an address that
// nobody has reserved none, as soon as one VM has a limit.
func TestFilterAsks(t *testing.T) {
	var said []word
	own, other, strange := netip.MustParseAddr("10.91.0.9"), netip.MustParseAddr("10.91.0.10"), netip.MustParseAddr("10.91.0.11")
	f := newFilter(func(a netip.Addr) bool { return a == own || a == other }, func(w word) { said = append(said, w) })
	if f.Asks(own, "evil.example") != dns.Free || f.Asks(strange, "evil.example") != dns.Free {
		t.Error("there is no limit yet")
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	f.do(order{Limit: &limit{MAC: mac, Addresses: []netip.Addr{own}, Names: []string{"deb.example", "*.wild.example"}}})
	for _, c := range []struct {
		client netip.Addr
		name   string
		want   dns.Ruling
	}{
		{own, "deb.example", dns.Checked},
		{own, "a.b.wild.example", dns.Checked},
		{own, "wild.example", dns.Refused},
		{own, "", dns.Refused},
		{own, "evil.example", dns.Refused},
		{other, "evil.example", dns.Free},
		{strange, "deb.example", dns.Failed},
	} {
		if got := f.Asks(c.client, c.name); got != c.want {
			t.Errorf("%s, %q: %d, want %d", c.client, c.name, got, c.want)
		}
	}
	if len(said) != 3 || said[2].Refused.Name != "evil.example" {
		t.Errorf("said %+v", said)
	}
	for range 2 * questionBurst {
		f.Asks(own, "deb.example")
	}
	if f.Asks(own, "deb.example") != dns.Failed || f.Asks(own, "evil.example") != dns.Refused || f.Asks(other, "x") != dns.Free {
		t.Error("a guest that asks all the time")
	}
	if len(said) > toldBurst+3 {
		t.Errorf("%d words about refused names", len(said))
	}
	f.do(order{Release: []net.HardwareAddr{mac}})
	if f.Asks(own, "evil.example") != dns.Free {
		t.Error("the limit has not ended")
	}
	f.do(order{Serve: &Network{Cautious: true}})
	if f.Asks(strange, "deb.example") != dns.Failed {
		t.Error("a clerk that does not know the guests yet")
	}
}

// An answer waits for the keeper's word, and not for ever.
func TestFilterAnswers(t *testing.T) {
	own := netip.MustParseAddr("10.91.0.9")
	var f *filter
	rules := true
	f = newFilter(func(netip.Addr) bool { return true }, func(w word) {
		if rules {
			go f.do(order{Ruled: &ruled{ID: w.Answer.ID, Ruling: dns.Checked}})
		}
	})
	f.do(order{Limit: &limit{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Addresses: []netip.Addr{own}}})
	if got := f.Answers(own, "deb.example", []netip.Addr{own}, time.Minute); got != dns.Checked {
		t.Errorf("got %d", got)
	}
	if got := f.Answers(own.Next(), "deb.example", nil, time.Minute); got != dns.Failed {
		t.Errorf("of a guest that has left: %d", got)
	}
	rules = false
	if got := f.Answers(own, "deb.example", []netip.Addr{own}, time.Minute); got != dns.Failed || len(f.waiting) != 0 {
		t.Errorf("without a word: %d, %d wait", got, len(f.waiting))
	}
	f.do(order{Ruled: &ruled{ID: 99, Ruling: dns.Checked}}) // nobody waits
}
