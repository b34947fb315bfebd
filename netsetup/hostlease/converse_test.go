package hostlease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab/fakewire"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/managers"
)

var (
	mac    = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	mine   = netip.MustParseAddr("192.0.2.55")
	server = netip.MustParseAddr("192.0.2.1")
	lease  = managers.HostLease{Address: mine, MAC: mac, ClientID: []byte{1, 2, 3}, Host: "web"}
)

// reply is a server's frame in answer to a message.
func reply(t *testing.T, m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, more ...dhcpv4.Modifier) []byte {
	t.Helper()
	more = append([]dhcpv4.Modifier{
		dhcpv4.WithReply(m), dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(mine.AsSlice()), dhcpv4.WithServerIP(server.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.AsSlice())), dhcpv4.WithLeaseTime(800),
	}, more...)
	r, err := dhcpv4.New(more...)
	if err != nil {
		t.Fatal(err)
	}
	return packet.Datagram{SrcMAC: packet.Broadcast, DstMAC: mac, Src: server, Dst: mine, SrcPort: serverPort, DstPort: clientPort, Payload: r.ToBytes()}.Frame()
}

func TestRequest(t *testing.T) {
	m, err := request(lease)
	if err != nil {
		t.Fatal(err)
	}
	if m.MessageType() != dhcpv4.MessageTypeRequest || m.ClientHWAddr.String() != mac.String() || !m.ClientIPAddr.Equal(mine.AsSlice()) ||
		m.HostName() != "web" || !slices.Equal(m.Options.Get(dhcpv4.OptionClientIdentifier), lease.ClientID) {
		t.Errorf("got %s", m.Summary())
	}
	if m.ServerIdentifier() != nil || m.RequestedIPAddress() != nil {
		t.Errorf("a client that renews names no server and asks for no address (RFC 2131, table 5): %s", m.Summary())
	}
	if m, err = request(managers.HostLease{Address: mine, MAC: mac}); err != nil || m.HostName() != "" || m.Options.Has(dhcpv4.OptionClientIdentifier) {
		t.Errorf("a client without names: %s, %v", m.Summary(), err)
	}
}

func TestConverse(t *testing.T) {
	m, err := request(lease)
	if err != nil {
		t.Fatal(err)
	}
	another, err := request(lease)
	if err != nil {
		t.Fatal(err)
	}
	ack := func(more ...dhcpv4.Modifier) []byte { return reply(t, m, dhcpv4.MessageTypeAck, more...) }
	nak := reply(t, m, dhcpv4.MessageTypeNak, dhcpv4.WithOption(dhcpv4.OptMessage("wrong network")))
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		frames [][]byte // half a second apart
		send   error
		want   error // nil: agreed
	}{
		{"agreed", [][]byte{ack()}, nil, nil},
		{"another server refuses first", [][]byte{nak, ack()}, nil, nil},
		{"refused", [][]byte{nak}, nil, ErrRefused},
		{"silent", nil, nil, ErrSilent},
		{"another client's", [][]byte{reply(t, another, dhcpv4.MessageTypeAck)}, nil, ErrSilent},
		{"another address", [][]byte{ack(dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 99)))}, nil, ErrSilent},
		{"an offer", [][]byte{reply(t, m, dhcpv4.MessageTypeOffer)}, nil, ErrSilent},
		{"no DHCP", [][]byte{packet.Datagram{Src: server, Dst: mine, SrcPort: serverPort, DstPort: clientPort, Payload: []byte("x")}.Frame()}, nil, ErrSilent},
		{"no IPv4", [][]byte{packet.ARPRequest(mac, mine, server)}, nil, ErrSilent},
		{"nothing can be sent", nil, broken, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := fakewire.New()
				for i, f := range c.frames {
					time.AfterFunc(time.Duration(i+1)*time.Second/2, func() { wire.Receive(f) })
				}
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				var sent []packet.Datagram
				terms, err := converse(ctx, wire, func(d packet.Datagram) error {
					sent = append(sent, d)
					return c.send
				}, lease, m)
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Errorf("got %+v, %v, want %v", terms, err, c.want)
				}
				if err == nil && (terms.Server != server || terms.Lasts != 800*time.Second || terms.Renew != 400*time.Second) {
					t.Errorf("got %+v", terms)
				}
				if len(sent) != 1 || sent[0].Src != mine || sent[0].SrcPort != clientPort || sent[0].DstPort != serverPort || sent[0].DstMAC.String() != packet.Broadcast.String() {
					t.Errorf("sent %+v", sent)
				}
			})
		})
	}
	// The host's own frames are no answers.
	wire := fakewire.New()
	wire.Sent(ack())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := converse(ctx, wire, func(packet.Datagram) error { return nil }, lease, m); !errors.Is(err, ErrSilent) {
		t.Errorf("a frame of the host's own: %v", err)
	}
}

func TestOffered(t *testing.T) {
	m, err := discover(mac)
	if err != nil {
		t.Fatal(err)
	}
	another, err := discover(mac)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		frames map[time.Duration][]byte
		send   error
		sent   int
		want   bool
		err    error
	}{
		{"at once", map[time.Duration][]byte{0: reply(t, m, dhcpv4.MessageTypeOffer)}, nil, 1, true, nil},
		{"after the third question", map[time.Duration][]byte{2500 * time.Millisecond: reply(t, m, dhcpv4.MessageTypeOffer)}, nil, 3, true, nil},
		{"of another question", map[time.Duration][]byte{0: reply(t, another, dhcpv4.MessageTypeOffer)}, nil, 4, false, nil},
		{"a refusal", map[time.Duration][]byte{0: reply(t, m, dhcpv4.MessageTypeNak)}, nil, 4, false, nil},
		{"no DHCP", map[time.Duration][]byte{0: packet.ARPRequest(mac, mine, server)}, nil, 4, false, nil},
		{"the link is down", nil, unix.ENETDOWN, 4, false, nil},
		{"the link is gone", nil, unix.ENODEV, 1, false, unix.ENODEV},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := fakewire.New()
				for after, f := range c.frames {
					time.AfterFunc(after, func() { wire.Receive(f) })
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
				defer cancel()
				sent := 0
				ok, err := offered(ctx, wire, func(b []byte) error {
					sent++
					if d, ok := packet.ParseDatagram(b); !ok || d.SrcPort != clientPort || d.DstPort != serverPort {
						t.Errorf("sent %x", b)
					}
					return c.send
				}, m)
				if ok != c.want || sent != c.sent || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
					t.Errorf("offered %v after %d questions, %v", ok, sent, err)
				}
			})
		})
	}
}

// asked is one question of a Renewer.
type asked struct {
	at    time.Duration
	toAll bool
}

// silentUntilT2 are the questions of a renewer that no server answers before T2.
var silentUntilT2 = []asked{
	{0, false},
	{400 * time.Second, false},
	{464 * time.Second, false},
	{528 * time.Second, false},
	{592 * time.Second, false},
	{648 * time.Second, false},
	{676 * time.Second, false},
	{690 * time.Second, false},
	{697 * time.Second, false},
	{750500 * time.Millisecond, true},
	{777250 * time.Millisecond, true},
	{790625 * time.Millisecond, true},
}

// The renewer asks at once and at T1; without an answer again and again, from T2 on all
// servers; and it gives the address what the server grants.
func TestRun(t *testing.T) {
	granted := Terms{Server: server, Lasts: 800 * time.Second, Renew: 400 * time.Second, Rebind: 700 * time.Second}
	for _, c := range []struct {
		name   string
		silent [2]time.Duration // from, to
		soon   time.Duration    // 0: never
		until  time.Duration
		asked  []asked
		warned bool
	}{
		{"the server answers", [2]time.Duration{}, 0, 1000 * time.Second, []asked{{0, false}, {400 * time.Second, false}, {800 * time.Second, false}}, false},
		{
			"no answer for two minutes",
			[2]time.Duration{1, 510 * time.Second},
			0, 600 * time.Second,
			[]asked{{0, false}, {400 * time.Second, false}, {464 * time.Second, false}, {528 * time.Second, false}},
			false,
		},
		{
			"no answer until T2",
			[2]time.Duration{1, 790 * time.Second},
			0, 850 * time.Second,
			silentUntilT2,
			true,
		},
		{"a cable is plugged in", [2]time.Duration{}, 100 * time.Second, 600 * time.Second, []asked{{0, false}, {100 * time.Second, true}, {500 * time.Second, false}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var got []asked
				var extended []time.Duration
				warned := false
				r := New(Config{
					Client: managers.Client{Program: managers.Udhcpc, Lease: lease}, Bridge: "qn-lan",
					Change: func(_ context.Context, f func() error) error { return f() },
					Warn:   func(string) { warned = true }, Log: slog.New(slog.DiscardHandler),
				})
				r.clock = func() time.Duration { return time.Hour + time.Since(began) }
				r.extend = func(lasts time.Duration) error {
					extended = append(extended, lasts)
					return nil
				}
				r.ask = func(ctx context.Context, toAll bool) (Terms, error) {
					now := time.Since(began)
					got = append(got, asked{now, toAll})
					if now >= c.silent[0] && now < c.silent[1] {
						<-ctx.Done()
						return Terms{}, fmt.Errorf("renew: %w", ErrSilent)
					}
					return granted, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), c.until)
				defer cancel()
				if c.soon > 0 {
					time.AfterFunc(c.soon, r.Soon)
				}
				if err := r.Run(ctx); err != nil || time.Since(began) != c.until {
					t.Errorf("got %v after %v", err, time.Since(began))
				}
				if !slices.Equal(got, c.asked) || warned != c.warned {
					t.Errorf("warned %v, asked\n%v, want\n%v", warned, got, c.asked)
				}
				if len(extended) == 0 || extended[0] != granted.Lasts || r.Client.Lease.Server != server {
					t.Errorf("extended by %v, server %s", extended, r.Client.Lease.Server)
				}
			})
		})
	}
}

// A client that renews by itself is left alone.
func TestRunOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{Client: managers.Client{Program: managers.Dhcpcd, Lease: lease}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r.Soon()
		if err := r.Run(ctx); err != nil || r.String() != "lease" {
			t.Error(err)
		}
	})
	if a, b := uptime(), uptime(); a <= 0 || b < a {
		t.Errorf("the clock goes from %v to %v", a, b)
	}
}

func TestLifetimes(t *testing.T) {
	const forever = 1<<32 - 1
	address := func(prefix string, valid int) netlink.Addr {
		a, err := netlink.ParseAddr(prefix)
		if err != nil {
			t.Fatal(err)
		}
		a.ValidLft, a.PreferedLft = valid, valid
		return *a
	}
	for _, c := range []struct {
		name         string
		port, bridge netlink.Addr
		all          bool
		want         int // of the renewed address; 0: none
	}{
		{"renewed", address("192.0.2.55/24", 100), address("192.0.2.55/24", 20), true, 100},
		{"not renewed", address("192.0.2.55/24", 20), address("192.0.2.55/24", 100), true, 0},
		{"without an end", address("192.0.2.55/24", 100), address("192.0.2.55/24", forever), true, 0},
		{"another address", address("192.0.2.56/24", 100), address("192.0.2.55/24", 100), false, 0},
		{"another prefix", address("192.0.2.55/25", 100), address("192.0.2.55/24", 100), false, 0},
	} {
		got, all := lifetimes([]netlink.Addr{c.port}, []netlink.Addr{c.bridge})
		if all != c.all || len(got) != min(c.want, 1) || c.want > 0 && (got[0].ValidLft != c.want || got[0].PreferedLft != c.want) {
			t.Errorf("%s: got %v, all %v", c.name, got, all)
		}
	}
}

// What the kernel refuses is named with its link.
func TestNoSuchLink(t *testing.T) {
	r := New(Config{Client: managers.Client{Program: managers.Udhcpc, Lease: lease}, Port: "no-such-nic", Bridge: "no-such-bridge"})
	_, ask := r.askServer(t.Context(), false)
	for name, err := range map[string]error{"ask": ask, "extend": r.extend(time.Minute), "follow": r.Follow(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "no-such-") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := setLifetime("lo", mine, time.Minute); err == nil || !strings.Contains(err.Error(), mine.String()) {
		t.Errorf("an address that is gone: %v", err)
	}
}
