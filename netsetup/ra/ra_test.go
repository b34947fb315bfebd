package ra

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
)

var (
	hostMAC  = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	guestMAC = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 9}
	guest    = packet.EUI64(packet.LinkLocal, guestMAC)
	config   = Config{
		MAC: hostMAC, Prefix: netip.MustParsePrefix("fd77:1:2:3::/64"), Address: netip.MustParseAddr("fd77:1:2:3::1"), Domain: "qnet", MTU: 1400,
	}
)

// what an advertisement says.
type said struct {
	to                                 netip.Addr
	flags                              byte
	router, valid, preferred, mtu, dns uint32
	search                             string
}

func number(b []byte) (n uint32) {
	for _, x := range b {
		n = n<<8 | uint32(x)
	}
	return n
}

func read(t testing.TB, frame []byte) said {
	t.Helper()
	p, ok := packet.ParseIPv6(frame)
	if !ok || p.HopLimit != 255 || p.Payload[0] != typeAdvertisement || p.Src != netip.MustParseAddr("fe80::5054:ff:fe00:1") || !bytes.Equal(p.SrcMAC, hostMAC) {
		t.Fatalf("no advertisement: %x", frame)
	}
	if again := p.Frame(); !bytes.Equal(again, frame) {
		t.Errorf("checksum: got %x, want %x", frame, again)
	}
	s := said{to: p.Dst, flags: p.Payload[5], router: number(p.Payload[6:8])}
	for o := p.Payload[16:]; len(o) > 0; o = o[8*int(o[1]):] {
		switch o[0] {
		case optionSourceLink:
			if !bytes.Equal(o[2:8], hostMAC) {
				t.Errorf("link-layer address %x", o[2:8])
			}
		case optionPrefix:
			if o[2] != 64 || o[3] != 0xc0 || !bytes.Equal(o[16:32], config.Prefix.Addr().AsSlice()) {
				t.Errorf("prefix %x", o[:32])
			}
			s.valid, s.preferred = number(o[4:8]), number(o[8:12])
		case optionMTU:
			s.mtu = number(o[4:8])
		case optionNameServers:
			if !bytes.Equal(o[8:24], config.Address.AsSlice()) {
				t.Errorf("name server %x", o[8:24])
			}
			s.dns = number(o[4:8])
		case optionSearchList:
			s.search = string(o[8 : 8*int(o[1])])
		default:
			t.Errorf("option %d", o[0])
		}
	}
	return s
}

func TestAdvertisements(t *testing.T) {
	const flags = 0xc0 // M and O; A and L are the prefix's
	search := "\x04qnet\x00\x00\x00"
	plain := config
	plain.MTU, plain.Domain = 1500, ""
	for name, c := range map[string]struct {
		frame []byte
		want  said
	}{
		"router":          {config.frame(router, allNodes, packet.MulticastMAC(allNodes)), said{allNodes, flags, 1800, 7200, 3600, 1400, 1800, search}},
		"no way out":      {config.frame(noRouter, guest, guestMAC), said{guest, flags, 0, 7200, 3600, 1400, 1800, search}},
		"last":            {config.frame(last, allNodes, packet.MulticastMAC(allNodes)), said{allNodes, flags, 0, 7200, 0, 1400, 0, search}},
		"1500 and no DNS": {plain.frame(router, guest, guestMAC), said{guest, flags, 1800, 7200, 3600, 0, 0, ""}},
	} {
		if got := read(t, c.frame); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
	if got := hex.EncodeToString(config.frame(router, allNodes, packet.MulticastMAC(allNodes))[:6]); got != "333300000001" {
		t.Errorf("to %s", got)
	}
}

// solicitation is a guest's, changed.
func solicitation(change func(*packet.IPv6Packet)) []byte {
	p, ok := packet.ParseIPv6(packet.RouterSolicitation(guestMAC, guest))
	if !ok {
		panic("no packet")
	}
	p.Payload = slices.Clone(p.Payload)
	if change != nil {
		change(&p)
	}
	return p.Frame()
}

// Only what RFC 4861 takes for a solicitation is one.
func TestParseSolicitation(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		ok    bool
	}{
		"a guest's":                       {solicitation(nil), true},
		"without an address":              {solicitation(func(p *packet.IPv6Packet) { p.Src, p.Payload = netip.IPv6Unspecified(), p.Payload[:8] }), true},
		"without an address, with option": {solicitation(func(p *packet.IPv6Packet) { p.Src = netip.IPv6Unspecified() }), false},
		"from beyond a router":            {solicitation(func(p *packet.IPv6Packet) { p.HopLimit = 254 }), false},
		"too short":                       {solicitation(func(p *packet.IPv6Packet) { p.Payload = p.Payload[:7] }), false},
		"an option of length 0":           {solicitation(func(p *packet.IPv6Packet) { p.Payload[9] = 0 }), false},
		"an option cut off":               {solicitation(func(p *packet.IPv6Packet) { p.Payload = p.Payload[:9] }), false},
		"an option too long":              {solicitation(func(p *packet.IPv6Packet) { p.Payload[9] = 2 }), false},
		"another code":                    {solicitation(func(p *packet.IPv6Packet) { p.Payload[1] = 1 }), false},
		"an advertisement":                {config.frame(router, guest, guestMAC), false},
		"from a group":                    {solicitation(func(p *packet.IPv6Packet) { p.SrcMAC = packet.MulticastMAC(allNodes) }), false},
		"a frame cut off":                 {solicitation(nil)[:60], false},
		"nothing":                         {nil, false},
	} {
		if _, ok := ParseSolicitation(c.frame); ok != c.ok {
			t.Errorf("%s: %v, want %v", name, ok, c.ok)
		}
	}
}

// sent collects what an advertiser sends, and when.
type sent struct {
	t *testing.T

	mu   sync.Mutex // guards what follows
	at   time.Time
	list []said
	when []time.Duration
}

// begin forgets what was sent.
func (s *sent) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.when, s.at = nil, nil, time.Now()
}

// all is what was sent since begin, and when.
func (s *sent) all() ([]said, []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list), slices.Clone(s.when)
}

func (s *sent) send(frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.when = append(s.list, read(s.t, frame)), append(s.when, time.Since(s.at))
	return unix.ENOBUFS // it is lost, and all goes on
}

// advertised runs an advertiser in a bubble of its own time.
func advertised(t *testing.T, isRouter bool, f func(a *Advertiser, s *sent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &sent{t: t, at: time.Now()}
		a := New(config, isRouter, s.send)
		done := make(chan struct{})
		go a.Run(done)
		defer close(done)
		f(a, s)
	})
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestFirstThenEach200Seconds(t *testing.T) {
	advertised(t, true, func(_ *Advertiser, s *sent) {
		wait(410 * time.Second)
		_, when := s.all()
		if want := []time.Duration{0, 4 * time.Second, 8 * time.Second, 208 * time.Second, 408 * time.Second}; !slices.Equal(when, want) {
			t.Errorf("sent at %v, want %v", when, want)
		}
	})
}

// A change goes to all guests at once and three times; what stays the same goes to none.
func TestRouterChanges(t *testing.T) {
	advertised(t, false, func(a *Advertiser, s *sent) {
		wait(100 * time.Second)
		s.begin()
		a.SetRouter(false)
		wait(time.Second)
		if list, _ := s.all(); len(list) != 0 {
			t.Errorf("told %v anew", list)
		}
		a.SetRouter(true)
		wait(10 * time.Second)
		a.SetRouter(false)
		wait(0)
		list, when := s.all()
		if want := []time.Duration{time.Second, 5 * time.Second, 9 * time.Second, 11 * time.Second}; !slices.Equal(when, want) {
			t.Fatalf("sent at %v, want %v", when, want)
		}
		for i, x := range list {
			if want := map[bool]uint32{true: 1800, false: 0}[i < 3]; x.router != want {
				t.Errorf("message %d: lifetime %d, want %d", i, x.router, want)
			}
		}
	})
}

// A guest that asks is answered at once. A flood, and guests without an address, get one for
// all each 3 seconds.
func TestAnswers(t *testing.T) {
	advertised(t, true, func(a *Advertiser, s *sent) {
		wait(20 * time.Second)
		s.begin()
		for range 10_000 {
			a.Answer(Solicitation{guest, guestMAC})
			time.Sleep(time.Millisecond)
		}
		alone, all := 0, 0
		list, _ := s.all()
		for _, x := range list {
			if x.to == guest {
				alone++
			} else {
				all++
			}
		}
		if alone > 11*mostAnswered || alone < 9*mostAnswered || all > 4 || all < 3 {
			t.Errorf("10,000 questions in 10 s: %d answers alone, %d for all", alone, all)
		}
		wait(20 * time.Second)
		s.begin()
		a.Answer(Solicitation{netip.IPv6Unspecified(), guestMAC})
		wait(0)
		a.Answer(Solicitation{netip.IPv6Unspecified(), guestMAC})
		wait(2 * time.Second)
		if list, _ := s.all(); len(list) != 1 || list[0].to != allNodes {
			t.Errorf("a guest without an address: %+v", list)
		}
		wait(2 * time.Second)
		if list, _ := s.all(); len(list) != 2 {
			t.Errorf("the next one: %+v", list)
		}
	})
}

// The last advertisement is the last one.
func TestEnd(t *testing.T) {
	advertised(t, true, func(a *Advertiser, s *sent) {
		wait(time.Second)
		a.End()
		a.End()
		a.SetRouter(false)
		a.Answer(Solicitation{guest, guestMAC})
		wait(time.Hour)
		if list, _ := s.all(); len(list) != 2 || list[1].router != 0 || list[1].preferred != 0 || list[1].dns != 0 {
			t.Errorf("sent %+v", list)
		}
	})
}

// A guest reads what the host tells.
func TestParse(t *testing.T) {
	want := Advertised{
		Router: netip.MustParseAddr("fe80::5054:ff:fe00:1"), Lifetime: 30 * time.Minute, Prefix: config.Prefix, NameServer: config.Address, MTU: 1400,
	}
	frame := config.frame(router, guest, guestMAC)
	if got, ok := Parse(frame); !ok || got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for name, frame := range map[string][]byte{
		"a solicitation": solicitation(nil), "cut off": frame[:len(frame)-1],
		"from beyond a router": slices.Concat(frame[:21], []byte{64}, frame[22:]),
		"an empty option":      slices.Concat(frame[:71], []byte{0}, frame[72:]),
	} {
		if got, ok := Parse(frame); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(config.frame(router, guest, guestMAC))
	f.Add(solicitation(nil))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if a, ok := Parse(frame); ok && (!a.Router.IsLinkLocalUnicast() || a.Prefix.IsValid() && a.Prefix != a.Prefix.Masked()) {
			t.Errorf("%+v of %x", a, frame)
		}
	})
}

func FuzzParseSolicitation(f *testing.F) {
	f.Add(solicitation(nil))
	f.Add(solicitation(func(p *packet.IPv6Packet) { p.Payload = append(p.Payload, 1, 0) }))
	f.Add(solicitation(nil)[:62])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		s, ok := ParseSolicitation(frame)
		if ok && (len(s.MAC) != 6 || !s.From.Is6() || s.From.IsMulticast()) {
			t.Errorf("%+v of %x", s, frame)
		}
	})
}

func TestAllocations(t *testing.T) {
	a := New(config, true, func([]byte) error { return nil })
	frame := solicitation(nil)
	got := testing.AllocsPerRun(100, func() {
		s, ok := ParseSolicitation(frame)
		if !ok {
			t.Fatal("not parsed")
		}
		a.counted = time.Time{}
		a.Answer(s)
	})
	if got > 4 {
		t.Errorf("%v allocations", got)
	}
}
