package dns

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/resolvconf"
)

// Config is what a Server needs to know. The server calls the functions from several
// goroutines at once, also from those that receive queries, so they must not block.
type Config struct {
	Link       string                                 // bridge to bind to with SO_BINDTODEVICE; "" binds to none
	Address    netip.Addr                             // the host's address in Prefix, where the server listens
	Port       uint16                                 // 0 is 53; tests use others
	Prefix     netip.Prefix                           // of the clients, and of the reverse names that this server answers
	Also       netip.Prefix                           // the prefix of the other family: its reverse names are answered, too; not valid without
	ResolvConf string                                 // "" is /etc/resolv.conf
	Conf       func() resolvconf.Conf                 // says what ResolvConf says, for a process that cannot read it; may be nil
	Lookup     func(name string) []netip.Addr         // name lower case, without domain ("web", "host"); nil result = no such name
	Reverse    func(netip.Addr) string                // name without domain, "" = none
	Queried    func(client netip.Addr, answered bool) // called for each query received (false) and each answer sent (true); may be nil
	Filter     Filter                                 // may be nil
	Log        *slog.Logger                           // nil discards
}

// limits bound what a query may cost in time and memory. Tests shorten them.
type limits struct {
	upstreamPort uint16 // where name servers listen

	perServer time.Duration // wait for one name server
	total     time.Duration // wait for all of them; glibc gives up after 5 s
	recheck   time.Duration // age at which resolv.conf is read again
	tcpIdle   time.Duration // wait for a client to send a query, or to take an answer
	warnEvery time.Duration // between two warnings of a kind
	pause     time.Duration // after a failure to receive

	inFlight     int // queries being forwarded
	perClient    int // of them, one client's over UDP
	connections  int // of clients, over TCP
	fromClient   int // of them, one client's
	sameQuestion int // queries for one name and type being forwarded
}

func defaultLimits() limits {
	return limits{
		upstreamPort: 53,
		perServer:    1500 * time.Millisecond,
		total:        5 * time.Second,
		recheck:      500 * time.Millisecond,
		tcpIdle:      10 * time.Second,
		warnEvery:    time.Minute,
		pause:        100 * time.Millisecond,
		inFlight:     256,
		perClient:    64,
		connections:  64,
		fromClient:   16,
		sameQuestion: 16,
	}
}

// Server answers the queries of one network. Its methods may be called from
// several goroutines, but not from the functions of its Config.
type Server struct {
	config    Config
	limits    limits
	zone      zone
	forwarder *forwarder
	udp       *net.UDPConn
	tcp       *net.TCPListener // nil where the port is taken

	withoutTCP error // names the holder of the TCP port

	forwards chan struct{}     // holds one for each query being forwarded
	clients  crowd[netip.Addr] // that have queries over UDP being forwarded
	failed   occasion          // of warnings about failures to receive
	broken   occasion          // of errors about messages that make this code panic

	ctx    context.Context // done when Close is called
	cancel context.CancelFunc
	wg     sync.WaitGroup // all goroutines

	mu     sync.Mutex
	closed bool                    // guarded by mu
	conns  map[net.Conn]netip.Addr // of TCP clients, and whose; guarded by mu
}

func newServer(c Config, l limits, udp *net.UDPConn) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Queried == nil {
		c.Queried = func(netip.Addr, bool) {}
	}
	if c.ResolvConf == "" {
		c.ResolvConf = hostsConf
	}
	s := &Server{
		config: c, limits: l, udp: udp,
		zone: zone{lookup: c.Lookup, reverse: c.Reverse},
		forwarder: &forwarder{
			self: c.Address, limits: l, log: c.Log,
			conf: &resolvConf{path: c.ResolvConf, every: l.recheck, ask: c.Conf},
		},
		forwards: make(chan struct{}, l.inFlight),
		conns:    map[net.Conn]netip.Addr{},
	}
	for _, p := range []netip.Prefix{c.Prefix, c.Also} {
		if p.Addr().Is6() {
			s.zone.prefix6 = p.Masked()
		} else if p.IsValid() {
			s.zone.prefix = p.Masked()
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background()) // until Close
	return s
}

// Serve answers queries until Close is called.
func (s *Server) Serve() {
	s.start(s.serveUDP)
	if s.tcp != nil {
		s.start(s.serveTCP)
	}
	<-s.ctx.Done()
	s.wg.Wait()
}

// Close closes the sockets, gives up the queries in flight and waits for all
// goroutines. Further calls do nothing but wait.
func (s *Server) Close() error {
	defer s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.cancel()
	for conn := range s.conns {
		conn.Close()
	}
	if s.tcp == nil {
		return s.udp.Close()
	}
	return errors.Join(s.udp.Close(), s.tcp.Close())
}

// WithoutTCP returns nil if the server serves TCP, and otherwise an error that wraps
// ErrPortTaken and names the process that holds port 53 on all addresses. Answers longer
// than 1232 bytes need TCP.
func (s *Server) WithoutTCP() error { return s.withoutTCP }

// start runs f in a goroutine that Close waits for. It reports false, and runs nothing,
// once Close has been called.
func (s *Server) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(f)
	}
	return !s.closed
}

func (s *Server) serveUDP() {
	buf := make([]byte, maxUDP) // a longer query is cut, and so gets FORMERR
	for {
		n, client, err := s.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			if !s.endures(err) {
				return
			}
			continue
		}
		if s.serves(client.Addr()) {
			s.serveDatagram(buf[:n], client)
		}
	}
}

// serveDatagram answers questions about VMs at once, in this goroutine, so that their
// names keep working however slow the host's name servers are.
func (s *Server) serveDatagram(raw []byte, client netip.AddrPort) {
	defer s.contain()
	what, q, answer := s.zone.answer(raw, overUDP)
	if what == drop {
		return
	}
	s.config.Queried(client.Addr(), false)
	if what == reply {
		s.send(answer, client)
		return
	}
	check, ruled := s.asks(client.Addr(), q, overUDP)
	kept := ruled
	if kept == nil {
		kept = s.forwarder.cached(raw, q, overUDP)
	}
	if ruled != nil || kept != nil && !check {
		s.send(kept, client)
		return
	}
	if !s.enter(client.Addr()) {
		return // the client asks again
	}
	raw = bytes.Clone(raw)
	started := s.start(func() {
		defer s.leave(client.Addr())
		defer s.contain()
		answer := kept
		if answer == nil {
			answer = s.forwarder.answer(s.ctx, raw, q, overUDP)
		}
		if check {
			answer = s.checked(client.Addr(), q, answer, overUDP)
		}
		s.send(answer, client)
	})
	if !started {
		s.leave(client.Addr())
	}
}

// enter counts one more query over UDP that is forwarded, unless that are too many already, of
// all clients or of this one: a client that floods the host's name servers leaves the others
// room.
func (s *Server) enter(client netip.Addr) bool {
	if !s.clients.enter(client, s.limits.perClient) {
		return false
	}
	select {
	case s.forwards <- struct{}{}:
		return true
	default:
		s.clients.leave(client)
		return false
	}
}

func (s *Server) leave(client netip.Addr) {
	<-s.forwards
	s.clients.leave(client)
}

// contain ends a panic, so that a mistake here in how a message is read costs its sender the
// answer, and not all guests their network. It is deferred.
func (s *Server) contain() {
	if cause := recover(); cause != nil && s.broken.due(s.limits.warnEvery) {
		s.config.Log.Error("a DNS message made the name server panic", "cause", cause, "stack", string(debug.Stack()))
	}
}

func (s *Server) send(answer []byte, client netip.AddrPort) {
	if answer == nil {
		return
	}
	if _, err := s.udp.WriteToUDPAddrPort(answer, client); err == nil {
		s.config.Queried(client.Addr(), true)
	}
}

func (s *Server) serves(client netip.Addr) bool { return s.config.Prefix.Contains(client) }

// endures waits a moment after a failure to receive, and reports whether to go on. It
// reports false after Close.
func (s *Server) endures(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	if s.failed.due(s.limits.warnEvery) {
		s.config.Log.Warn("DNS socket fails to receive", "err", err)
	}
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(s.limits.pause):
		return true
	}
}
