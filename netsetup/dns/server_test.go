package dns

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestServeLocalNames(t *testing.T) {
	b := startServer(t, testLimits())
	for _, over := range []transport{overUDP, overTCP} {
		got := b.exchange(t, over, message("web.qnet.", dnsmessage.TypeA))
		if s, want := summary(got), "Success|web.qnet.=10.0.2.4"; s != want {
			t.Errorf("%s: got %q, want %q", over, s, want)
		}
	}
	eventually(t, "both are counted", func() bool { return b.received.Load() == 2 && b.answered.Load() == 2 })
}

// The answer comes from the address that was asked: a connected socket, as in
// dial, takes no other. A client outside the prefix gets none.
func TestServePrefixOnly(t *testing.T) {
	at := freePort(t)
	prefix := netip.PrefixFrom(at.Addr(), 16).Masked()
	s, err := Listen(Config{Address: at.Addr(), Port: at.Port(), Prefix: prefix, Lookup: testZone().lookup})
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	defer s.Close()
	raw := packed(message("web.qnet.", dnsmessage.TypeA))
	stranger := dialFrom(t, overUDP, netip.MustParseAddr("127.0.0.1"), at)
	if _, err := stranger.Write(raw); err != nil {
		t.Fatal(err)
	}
	friend := dialFrom(t, overUDP, at.Addr().Next(), at)
	if _, err := roundTrip(friend, overUDP, raw); err != nil {
		t.Fatal(err)
	}
	// The stranger was first in line, so that its answer would be here already.
	stranger.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if n, err := stranger.Read(make([]byte, 512)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger got %d bytes and %v", n, err)
	}
	if err := isClosed(dialFrom(t, overTCP, netip.MustParseAddr("127.0.0.1"), at)); err != nil {
		t.Errorf("a stranger over TCP: %v", err)
	}
	if _, err := roundTrip(dialFrom(t, overTCP, at.Addr().Next(), at), overTCP, raw); err != nil {
		t.Error(err)
	}
}

func dialFrom(t *testing.T, over transport, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	var local net.Addr = &net.UDPAddr{IP: from.AsSlice()}
	if over == overTCP {
		local = &net.TCPAddr{IP: from.AsSlice()}
	}
	d := net.Dialer{LocalAddr: local}
	conn, err := d.Dial(string(over), to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(3 * time.Second))
	return conn
}

func TestServeDropsWhatIsNoQuery(t *testing.T) {
	b := startServer(t, testLimits())
	conn := b.dial(t, overUDP)
	for _, name := range []string{"empty", "short-header", "is-an-answer"} {
		if _, err := conn.Write(seeds()[name]); err != nil {
			t.Fatal(err)
		}
	}
	m := message("web.qnet.", dnsmessage.TypeA)
	m.ID = 7
	got, err := roundTrip(conn, overUDP, packed(m))
	if err != nil {
		t.Fatal(err)
	}
	if id := unpacked(t, got).ID; id != 7 {
		t.Errorf("got an answer to %#x first", id)
	}
	if n := b.received.Load(); n != 1 {
		t.Errorf("counted %d queries, want 1", n)
	}
}

func TestServeBoundsFlood(t *testing.T) {
	release := make(chan struct{})
	up := startUpstream(t, 0, func(raw []byte, _ transport) [][]byte {
		<-release
		return [][]byte{upstreamAnswer(raw, 0, "up")}
	})
	l := testLimits()
	l.inFlight = 4
	b := startServer(t, l, up)
	conn := b.dial(t, overUDP)
	for i := range 50 {
		if _, err := conn.Write(packed(message(fmt.Sprintf("%d.example.", i), dnsmessage.TypeTXT))); err != nil {
			t.Fatal(err)
		}
	}
	// A name of ours is answered even so, and once it is, the flood was received.
	b.exchange(t, overUDP, message("web.qnet.", dnsmessage.TypeA))
	if n := b.received.Load(); n != 51 {
		t.Errorf("received %d queries, want 51", n)
	}
	eventually(t, "the first are forwarded", func() bool { return up.count() == l.inFlight })

	// TCP waits for its turn.
	tcp := b.dial(t, overTCP)
	if err := writeMessage(tcp, packed(message("example.org.", dnsmessage.TypeTXT))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the query over TCP is received", func() bool { return b.received.Load() == 52 })
	if n := up.count(); n != l.inFlight {
		t.Errorf("forwarded %d, want %d", n, l.inFlight)
	}
	close(release)
	if _, err := readMessage(tcp); err != nil {
		t.Error(err)
	}
	eventually(t, "all are answered", func() bool { return b.answered.Load() == 1+4+1 })
	if got := b.ask(t, "example.net."); got != "up" {
		t.Errorf("got %q after the flood", got)
	}
}

// A message that makes the server panic has no answer; others have, over both transports.
func TestPanicEndsOneMessageOnly(t *testing.T) {
	at, log := freePort(t), &safeBuffer{}
	s, err := Listen(Config{
		Address: at.Addr(), Port: at.Port(), Prefix: loopback, Log: slog.New(slog.NewTextHandler(log, nil)),
		Lookup: func(name string) []netip.Addr {
			if name == "broken" {
				panic("a mistake")
			}
			return testZone().lookup(name)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	defer s.Close()
	for _, over := range []transport{overUDP, overTCP} {
		conn := dialFrom(t, over, at.Addr(), at)
		if over == overTCP {
			if err := writeMessage(conn, packed(message("broken.qnet.", dnsmessage.TypeA))); err != nil {
				t.Fatal(err)
			}
			if err := isClosed(conn); err != nil {
				t.Error(err)
			}
			conn = dialFrom(t, over, at.Addr(), at)
		} else if _, err := conn.Write(packed(message("broken.qnet.", dnsmessage.TypeA))); err != nil {
			t.Fatal(err)
		}
		got, err := roundTrip(conn, over, packed(message("web.qnet.", dnsmessage.TypeA)))
		if err != nil || summary(unpacked(t, got)) != "Success|web.qnet.=10.0.2.4" {
			t.Errorf("%s: afterwards: %v", over, err)
		}
	}
	if n := strings.Count(log.String(), "made the name server panic"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
}

func TestServeTCPConnection(t *testing.T) {
	up := startUpstream(t, 0, answerWith(0, "up"))
	l := testLimits()
	l.inFlight = 1
	b := startServer(t, l, up)
	conn := b.dial(t, overTCP)
	for i, name := range []string{"web.qnet.", "example.org.", "none.qnet.", "example.net."} {
		m := message(name, dnsmessage.TypeTXT)
		m.ID = uint16(i)
		got, err := roundTrip(conn, overTCP, packed(m))
		if err != nil {
			t.Fatal(err)
		}
		if id := unpacked(t, got).ID; id != m.ID {
			t.Errorf("got answer %d, want %d", id, m.ID)
		}
	}
	// Two at once, in three pieces.
	raw := packed(message("web.qnet.", dnsmessage.TypeA))
	stream := append([]byte{0, byte(len(raw))}, raw...)
	stream = append(stream, stream...)
	for _, piece := range [][]byte{stream[:1], stream[1:20], stream[20:]} {
		if _, err := conn.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := readMessage(conn); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeMessage(conn, []byte("no query")); err != nil {
		t.Fatal(err)
	}
	if err := isClosed(conn); err != nil {
		t.Errorf("after garbage: %v", err)
	}
}

func TestServeClosesIdleConnections(t *testing.T) {
	l := testLimits()
	l.tcpIdle = 50 * time.Millisecond
	b := startServer(t, l)
	quiet, halfway := b.dial(t, overTCP), b.dial(t, overTCP)
	if _, err := halfway.Write([]byte{0, 40, 1}); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{quiet, halfway} {
		if err := isClosed(conn); err != nil {
			t.Error(err)
		}
	}
}

func TestServeBoundsConnections(t *testing.T) {
	l := testLimits()
	l.connections = 2
	b := startServer(t, l)
	raw := packed(message("web.qnet.", dnsmessage.TypeA))
	var conns []net.Conn
	for range l.connections {
		conn := b.dial(t, overTCP)
		if _, err := roundTrip(conn, overTCP, raw); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	if err := isClosed(b.dial(t, overTCP)); err != nil {
		t.Errorf("one too many: %v", err)
	}
	conns[0].Close()
	eventually(t, "there is room again", func() bool {
		_, err := roundTrip(b.dial(t, overTCP), overTCP, raw)
		return err == nil
	})
}

func TestClose(t *testing.T) {
	up := startUpstream(t, 0, silent)
	b := startServer(t, testLimits(), up)
	idle := b.dial(t, overTCP)
	for _, over := range []transport{overUDP, overTCP} {
		conn := b.dial(t, over)
		raw := packed(message("example.org.", dnsmessage.TypeTXT))
		if over == overTCP {
			writeMessage(conn, raw)
		} else {
			conn.Write(raw)
		}
	}
	eventually(t, "two are in flight", func() bool { return up.count() == 2 })
	start := time.Now()
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("close took %v", took)
	}
	if n, err := idle.Read(make([]byte, 1)); err == nil {
		t.Errorf("an idle connection got %d bytes", n)
	}
	b.Serve() // returns at once
	if s, err := Listen(Config{Address: b.at.Addr(), Port: b.at.Port(), Prefix: loopback}); err != nil {
		t.Error(err)
	} else if err := s.Close(); err != nil { // never served
		t.Error(err)
	}
}

// isClosed waits until the server closes the connection.
func isClosed(conn net.Conn) error {
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("got %d bytes and %w, want EOF", n, err)
	}
	return nil
}
