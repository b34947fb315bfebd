package clerk

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dns"
)

var (
	prefix  = netip.MustParsePrefix("10.91.0.0/24")
	gateway = netip.MustParseAddr("10.91.0.1")
	vmsMAC  = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
)

// ears are a keeper's, with leases of its own and no lease file.
type ears struct {
	*dhcp.Server
	kept   []netip.Addr
	warned []string
	lost   error

	answered int
	refused  []string
}

func (e *ears) Kept(client net.HardwareAddr, a netip.Addr) error {
	err := e.Remember(client, a)
	if err == nil {
		e.kept = append(e.kept, a)
	}
	return err
}

func (e *ears) Warn(text string) { e.warned = append(e.warned, text) }

func (e *ears) Lost(err error) { e.lost = err }

func (e *ears) Answered(net.HardwareAddr, string, []netip.Addr, time.Duration) dns.Ruling {
	e.answered++
	return dns.Checked
}

func (e *ears) Refused(_ net.HardwareAddr, name string) { e.refused = append(e.refused, name) }

// heard lets the keeper hear the messages of a clerk, with the files that come with them, and
// then its end.
func heard(t testing.TB, ask bool, messages ...[]byte) (*Clerk, *ears, error) {
	t.Helper()
	server, err := dhcp.New(dhcp.Config{Prefix: prefix, Address: gateway})
	if err == nil {
		_, err = server.Reserve(vmsMAC, netip.Addr{}, "web")
	}
	if err != nil {
		t.Fatal(err)
	}
	e := &ears{Server: server}
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	clerk, err := connOf(theirs)
	if err != nil {
		t.Fatal(err)
	}
	k := &Clerk{c: Config{Keeper: e, Log: slog.New(slog.DiscardHandler)}, conn: ours, ctx: t.Context()}
	if ask {
		k.asked = make(chan []dhcp.Lease, 1)
	}
	defer clerk.Close() // not before: what it has not read of the keeper's answers would make that an error
	go func() {
		defer clerk.CloseWrite()
		for _, m := range messages {
			if len(m) == 0 {
				continue // it would be the end
			}
			clerk.SetWriteDeadline(time.Now().Add(5 * time.Second))
			if _, err := clerk.Write(m); err != nil {
				return
			}
		}
	}()
	return k, e, k.hear()
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What no clerk says ends it; the rest is used for what it is for.
func TestWords(t *testing.T) {
	usual := netip.MustParseAddr("10.91.0.200")
	client := net.HardwareAddr{0x52, 0x54, 0, 9, 9, 9}
	for name, c := range map[string]struct {
		words   []any
		kept    int
		warned  int
		hostile bool
	}{
		"a lease":              {[]any{word{Kept: &lease{MAC: client, Address: usual}}}, 1, 0, false},
		"of another network":   {[]any{word{Kept: &lease{MAC: client, Address: netip.MustParseAddr("10.92.0.5")}}}, 0, 0, true},
		"the gateway's":        {[]any{word{Kept: &lease{MAC: client, Address: gateway}}}, 0, 0, true},
		"of IPv6":              {[]any{word{Kept: &lease{MAC: client, Address: netip.MustParseAddr("fd00::1")}}}, 0, 0, true},
		"no address":           {[]any{word{Kept: &lease{MAC: client}}}, 0, 0, true},
		"a MAC too short":      {[]any{word{Kept: &lease{MAC: client[:3], Address: usual}}}, 0, 0, true},
		"a MAC too long":       {[]any{word{Kept: &lease{MAC: append(client[:6:6], 1, 2), Address: usual}}}, 0, 0, true},
		"a multicast MAC":      {[]any{word{Kept: &lease{MAC: net.HardwareAddr{1, 0, 0, 0, 0, 1}, Address: usual}}}, 0, 0, true},
		"a warning":            {[]any{word{Warn: "client x"}}, 0, 1, false},
		"leases nobody wanted": {[]any{word{Leases: []dhcp.Lease{{}}}}, 0, 0, true},
		"names":                {[]any{word{Answer: &answer{MAC: client, Name: "a.example", Addresses: []netip.Addr{usual}, TTL: 60}}, word{Refused: &refusal{MAC: client, Name: "evil.example"}}}, 0, 0, false},
		"a name too long":      {[]any{word{Refused: &refusal{MAC: client, Name: strings.Repeat("a", 256)}}}, 0, 0, true},
		"a TTL of the past":    {[]any{word{Answer: &answer{MAC: client, Name: "a.example", Addresses: []netip.Addr{usual}, TTL: -1}}}, 0, 0, true},
		"no address at all":    {[]any{word{Answer: &answer{MAC: client, Name: "a.example", Addresses: []netip.Addr{{}}}}}, 0, 0, true},
		"IPv4 within IPv6":     {[]any{word{Answer: &answer{MAC: client, Name: "a.example", Addresses: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}}}}, 0, 0, true},
		"no word":              {[]any{word{}, word{Warn: "then"}}, 0, 1, false},
		"no JSON":              {[]any{json.RawMessage(`[]`)}, 0, 0, true},
	} {
		var messages [][]byte
		for _, w := range c.words {
			messages = append(messages, encoded(t, w))
		}
		_, e, err := heard(t, false, messages...)
		if len(e.kept) != c.kept || len(e.warned) != c.warned || (err != nil && !errors.Is(err, net.ErrClosed)) != c.hostile {
			t.Errorf("%s: kept %v, warned %q, ended by %v", name, e.kept, e.warned, err)
		}
	}
}

// A warning is one line of printable text, of a bounded length, and there are not many.
func TestWarningsAreBounded(t *testing.T) {
	var messages [][]byte
	for range 3 * maxWarned {
		messages = append(messages, encoded(t, word{Warn: "\x1b]0;x\x07\nline " + strings.Repeat("ä", 4*maxWarning)}))
	}
	_, e, _ := heard(t, false, messages...)
	if len(e.warned) != maxWarned {
		t.Errorf("%d warnings, want %d", len(e.warned), maxWarned)
	}
	for _, w := range e.warned {
		if len(w) > maxWarning+4 || strings.ContainsAny(w, "\x1b\x07\n") {
			t.Fatalf("warned %q", w)
		}
	}
}

// Leases come in parts; more than there can be end the clerk.
func TestLeasesAreBounded(t *testing.T) {
	many := make([]dhcp.Lease, part)
	k, _, err := heard(t, true, encoded(t, word{Leases: many}), encoded(t, word{Leases: many[:3], End: true}))
	if got := <-k.asked; len(got) != part+3 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%d leases, %v", len(got), err)
	}
	var flood [][]byte
	for range maxLeases/part + 4 {
		flood = append(flood, encoded(t, word{Leases: many}))
	}
	if _, _, err := heard(t, true, flood...); !errors.Is(err, errHostile) {
		t.Errorf("a flood ends by %v", err)
	}
}

// A clerk that does not read is ended, and delays nobody for long.
func TestClerkThatDoesNotRead(t *testing.T) {
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	k := &Clerk{c: Config{Log: slog.New(slog.DiscardHandler)}, conn: ours, ctx: t.Context(), leases: map[string]lease{}}
	for range 10000 {
		if k.Reserve(vmsMAC, gateway.Next(), netip.Addr{}, "web"); k.current() == nil {
			break
		}
	}
	if k.current() != nil {
		t.Error("it is still heard")
	}
	if n, err := unix.Read(int(theirs.Fd()), make([]byte, 4096)); n == 0 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

// FuzzWords feeds what a clerk may send. The leases stay within the network.
func FuzzWords(f *testing.F) {
	f.Add([]byte(`{"kept":{"mac":"UlQACQkJ","address":"10.91.0.200"}}`), []byte(`{"warn":"x"}`))
	f.Add([]byte(`{"leases":[{"mac":"52:54:00:09:09:09","address":"10.91.0.201","bound":true,"left":99}],"end":true}`), []byte(`{"conf":true}`))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		k, e, _ := heard(t, true, one, two)
		for _, a := range e.kept {
			if !prefix.Contains(a) || a == gateway {
				t.Fatalf("kept %s", a)
			}
		}
		select {
		case told := <-k.asked:
			vms := 0
			for _, l := range e.Confirm(told) {
				if !prefix.Contains(l.Address) || l.Address == gateway || len(l.Host) > 63 || l.Left < 0 || l.Left > time.Hour {
					t.Fatalf("lease %+v", l)
				}
				if l.VM {
					vms++
				}
			}
			if vms != 1 {
				t.Fatalf("%d leases of VMs", vms)
			}
		default:
		}
	})
}
