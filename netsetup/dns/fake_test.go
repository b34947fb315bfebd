package dns

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	lastHost atomic.Uint32
)

// freePort returns an address in 127.0.0.0/8 that no other test has, with a port
// free for both transports.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	n := lastHost.Add(1)
	addr := netip.AddrFrom4([4]byte{127, byte(64 + os.Getpid()%64), byte(n >> 8), byte(n)})
	l, err := net.Listen("tcp4", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// handler makes the answers to a query that came to an upstream server.
type handler func(query []byte, over transport) [][]byte

// upstream is a name server in Go. Each query is handled in a goroutine.
type upstream struct {
	at netip.AddrPort

	mu    sync.Mutex
	seen  [][]byte
	ports map[int]bool // of clients
}

// startUpstream starts a server on an address of its own and, if port is not 0, that port.
func startUpstream(t *testing.T, port uint16, handle handler) *upstream {
	t.Helper()
	at := freePort(t)
	if port != 0 {
		at = netip.AddrPortFrom(at.Addr(), port)
	}
	return startUpstreamAt(t, at, handle)
}

// startUpstreamAt starts a server on an address of either family.
func startUpstreamAt(t *testing.T, at netip.AddrPort, handle handler) *upstream {
	t.Helper()
	u := &upstream{at: at, ports: map[int]bool{}}
	pc, err := net.ListenPacket("udp", u.at.String())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", u.at.String())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { pc.Close(); l.Close(); wg.Wait() })
	wg.Go(func() {
		for buf := make([]byte, 65535); ; {
			n, client, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			raw := u.note(buf[:n], client.(*net.UDPAddr).Port)
			wg.Go(func() {
				for _, answer := range handle(raw, overUDP) {
					pc.WriteTo(answer, client)
				}
			})
		}
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { u.serveConn(conn, handle) })
		}
	})
	return u
}

func (u *upstream) serveConn(conn net.Conn, handle handler) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	for {
		raw, err := readMessage(conn)
		if err != nil {
			return
		}
		for _, answer := range handle(u.note(raw, 0), overTCP) {
			writeMessage(conn, answer)
		}
	}
}

func (u *upstream) note(raw []byte, port int) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	raw = bytes.Clone(raw)
	u.seen = append(u.seen, raw)
	u.ports[port] = true
	return raw
}

// queries returns those that came.
func (u *upstream) queries() [][]byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

func (u *upstream) count() int { return len(u.queries()) }

// answerWith answers every query with the code and, as its text, the name of the server.
func answerWith(rcode dnsmessage.RCode, text string) handler {
	return func(raw []byte, _ transport) [][]byte { return [][]byte{upstreamAnswer(raw, rcode, text)} }
}

func upstreamAnswer(raw []byte, rcode dnsmessage.RCode, texts ...string) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		panic(err)
	}
	m.Response, m.RCode = true, rcode
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
		Body:   &dnsmessage.TXTResource{TXT: texts},
	}}
	return packed(m)
}

func silent([]byte, transport) [][]byte { return nil }

// text is what an answer of answerWith says: "one", "ServerFailure one".
func text(m dnsmessage.Message) string {
	var words []string
	if m.RCode != dnsmessage.RCodeSuccess {
		words = append(words, strings.TrimPrefix(m.RCode.String(), "RCode"))
	}
	for _, a := range m.Answers {
		if b, ok := a.Body.(*dnsmessage.TXTResource); ok {
			words = append(words, b.TXT[0])
		}
	}
	return strings.Join(words, " ")
}

// bench is a server under test with its name servers in a file.
type bench struct {
	*Server
	at   netip.AddrPort
	conf string
	log  *safeBuffer

	received, answered atomic.Int32
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func testLimits() limits {
	l := defaultLimits()
	l.perServer, l.total = 2*time.Second, 4*time.Second // no test waits for them by chance
	return l
}

// startServer serves testZone's names on loopback until the test ends.
func startServer(t *testing.T, l limits, ups ...*upstream) *bench {
	t.Helper()
	b := &bench{at: freePort(t), log: &safeBuffer{}}
	var addrs []netip.Addr
	for _, u := range ups {
		addrs = append(addrs, u.at.Addr())
		l.upstreamPort = u.at.Port()
		b.at = netip.AddrPortFrom(b.at.Addr(), u.at.Port()) // as port 53 is both ours and theirs
	}
	b.conf = writeConf(t, filepath.Join(t.TempDir(), "resolv.conf"), addrs...)
	z := testZone()
	s, err := listen(Config{
		Address: b.at.Addr(), Port: b.at.Port(), Prefix: loopback, ResolvConf: b.conf,
		Lookup: z.lookup, Reverse: z.reverse, Log: slog.New(slog.NewTextHandler(b.log, nil)),
		Queried: func(client netip.Addr, answered bool) {
			if !loopback.Contains(client) {
				t.Errorf("queried by %v", client)
			}
			if answered {
				b.answered.Add(1)
			} else {
				b.received.Add(1)
			}
		},
	}, l)
	if err != nil {
		t.Fatal(err)
	}
	b.Server = s
	served := make(chan struct{})
	go func() { defer close(served); s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		<-served
	})
	return b
}

// dial opens a connection whose reads do not hang for ever.
func (b *bench) dial(t *testing.T, over transport) net.Conn {
	t.Helper()
	conn, err := net.Dial(string(over), b.at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	return conn
}

// exchange sends a query and returns the answer to it.
func (b *bench) exchange(t *testing.T, over transport, m dnsmessage.Message) dnsmessage.Message {
	t.Helper()
	conn := b.dial(t, over)
	defer conn.Close()
	got, err := roundTrip(conn, over, packed(m))
	if err != nil {
		t.Fatalf("no answer to %v: %v", m.Questions, err)
	}
	answer := unpacked(t, got)
	if answer.ID != m.ID || !answer.Response {
		t.Fatalf("got header %#v, want an answer to %#x", answer.Header, m.ID)
	}
	return answer
}

// ask is exchange for a TXT record over UDP, and text of its answer.
func (b *bench) ask(t *testing.T, name string) string {
	t.Helper()
	return text(b.exchange(t, overUDP, message(name, dnsmessage.TypeTXT)))
}

func roundTrip(conn net.Conn, over transport, raw []byte) ([]byte, error) {
	if over == overTCP {
		if err := writeMessage(conn, raw); err != nil {
			return nil, err
		}
		return readMessage(conn)
	}
	if _, err := conn.Write(raw); err != nil {
		return nil, err
	}
	buf := make([]byte, 65535)
	n, err := conn.Read(buf)
	return buf[:n], err
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
