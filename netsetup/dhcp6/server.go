// Package dhcp6 configures a network's guests over IPv6: it serves DHCPv6 (RFC 8415, options
// of RFC 3646) and answers router solicitations (package ra), from one packet socket on the
// bridge. So a firewall that drops the host's input does not stop it. It computes the checksums
// of its answers itself.
//
// A VM's NIC gets the address that is reserved for its MAC, and no other client gets any:
// those make addresses of the advertised prefix. A client's DUID does not count, because cloned
// machines send the same, and one machine sends several: its firmware's, its installer's.
//
// It knows which of its addresses a guest uses, for the guest's name: the lease that the
// guest has taken, or what the keeper saw the guest use.
//
// It touches its socket only, which needs CAP_NET_RAW to open. A [Server]'s methods may be
// called concurrently. How a message becomes an answer is pure but for the clients and the
// clock. Messages are read and made here: the library that does so would make the binary 270 KB
// longer, for ten types of messages and seven options.
package dhcp6

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/ra"
)

const (
	serverPort = 547
	clientPort = 546
	// leaseTime is how long an address is the client's without another word of it. It renews
	// after half of it.
	leaseTime = time.Hour
	// maxSeen bounds the addresses of a NIC that are kept.
	maxSeen = 8
	// readBuffer holds some 500 messages, at about 2 KiB of kernel memory each.
	readBuffer = 1 << 20
)

// servers are all servers of a link (RFC 8415, section 7.1).
var servers = netip.MustParseAddr("ff02::1:2")

// Config describes the network to serve.
type Config struct {
	Link    int              // the bridge's index
	MAC     net.HardwareAddr // the bridge's
	Prefix  netip.Prefix     // of 64 bits
	Address netip.Addr       // the host's in Prefix, where the name server is
	Router  bool             // the host has a way to the Internet over IPv6
	Domain  string           // "" offers no DNS
	MTU     int              // bytes
	Before  func()           // called before each message is answered; may be nil
	Warn    func(string)     // gets what the user should know, once a minute at most; may be nil
	Log     *slog.Logger     // nil discards
}

// mac is a MAC address that can be a map's key.
type mac [6]byte

// client is a VM's NIC.
type client struct {
	address netip.Addr // reserved
	vm      string
	bound   bool         // the guest has taken the address
	until   time.Time    // the end of its lease
	seen    []netip.Addr // addresses of the prefix that the guest uses, the newest first
}

// Server serves one network.
type Server struct {
	c         Config
	duid      []byte
	linkLocal netip.Addr // the host's
	conn      *packet.Conn
	ra        *ra.Advertiser

	mu      sync.Mutex // guards what follows
	clients map[mac]*client
	holders map[netip.Addr]mac // of the reserved addresses
	warned  time.Time
	now     func() time.Time
}

// New returns a server without a socket.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		c: c, duid: duid(c.MAC), linkLocal: packet.EUI64(packet.LinkLocal, c.MAC),
		clients: map[mac]*client{}, holders: map[netip.Addr]mac{}, now: time.Now,
	}
	s.ra = ra.New(ra.Config{MAC: c.MAC, Prefix: c.Prefix, Address: c.Address, Domain: c.Domain, MTU: c.MTU}, c.Router, s.send)
	return s
}

// Listen opens the packet socket. It needs CAP_NET_RAW.
func (s *Server) Listen() error {
	conn, err := listen(s.c.Link, s.c.Log)
	s.conn = conn
	return err
}

func listen(link int, log *slog.Logger) (*packet.Conn, error) {
	conn, err := packet.Listen(link, packet.IPv6, packet.ConfigurationOf(serverPort))
	if err != nil {
		return nil, fmt.Errorf("serve DHCPv6: %w", err)
	}
	if err := conn.SetReadBuffer(readBuffer); err != nil {
		log.Warn("serve DHCPv6", "error", err)
	}
	return conn, nil
}

// Open opens the packet socket on a link for a server in another process, which gets its
// descriptor and calls ListenOn. Messages wait in it meanwhile. It needs CAP_NET_RAW.
func Open(link int, log *slog.Logger) (*os.File, error) {
	conn, err := listen(link, log)
	if err != nil {
		return nil, err
	}
	return conn.File()
}

// ListenOn uses a descriptor of Open.
func (s *Server) ListenOn(fd int) error {
	conn, err := packet.Use(fd)
	if err != nil {
		return fmt.Errorf("serve DHCPv6: %w", err)
	}
	s.conn = conn
	return nil
}

// Serve answers and advertises until Close, and returns nil then; or until the link is gone.
func (s *Server) Serve() error {
	done := make(chan struct{})
	var advertising sync.WaitGroup
	advertising.Go(func() { s.ra.Run(done) })
	defer advertising.Wait()
	defer close(done)
	err := s.conn.Each(func(frame []byte) {
		if s.c.Before != nil {
			s.c.Before()
		}
		if answer := s.contained(frame); answer != nil {
			s.send(answer) //nolint:errcheck // it is logged, and the guest asks again
		}
	})
	if err != nil {
		return fmt.Errorf("serve DHCPv6: %w", err)
	}
	return nil
}

// Close ends Serve.
func (s *Server) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// SetRouter says whether the host has a way to the Internet over IPv6. Guests learn it at once.
func (s *Server) SetRouter(isRouter bool) { s.ra.SetRouter(isRouter) }

// End tells the guests that the network ends.
func (s *Server) End() { s.ra.End() }

func (s *Server) send(frame []byte) error {
	err := s.conn.Write(frame)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		s.c.Log.Warn("serve DHCPv6", "error", err)
	}
	return err
}

// contained is handle, but that a panic is no answer: a mistake here in how a message is read
// costs its sender the answer, and not all guests their network.
func (s *Server) contained(frame []byte) (answer []byte) {
	defer func() {
		if cause := recover(); cause != nil {
			s.c.Log.Error("an IPv6 message made the server panic", "cause", cause, "stack", string(debug.Stack()))
		}
	}()
	return s.handle(frame)
}

// handle returns the frame that answers a frame of DHCPv6, or nil. A solicitation goes to the
// advertiser.
func (s *Server) handle(frame []byte) []byte {
	if asked, ok := ra.ParseSolicitation(frame); ok {
		s.ra.Answer(asked)
		return nil
	}
	d, ok := packet.ParseDatagramIPv6(frame)
	if !ok || d.DstPort != serverPort || d.Dst != servers || !d.Src.IsLinkLocalUnicast() || d.SrcMAC[0]&1 != 0 {
		return nil
	}
	m, ok := parse(d.Payload)
	if !ok {
		return nil
	}
	payload := s.locked(mac(d.SrcMAC), m)
	if payload == nil {
		return nil
	}
	return packet.Datagram{
		SrcMAC: s.c.MAC, DstMAC: d.SrcMAC, Src: s.linkLocal, Dst: d.Src, SrcPort: serverPort, DstPort: clientPort, Payload: payload,
	}.FrameIPv6()
}

// locked is answer with mu held, also where it panics.
func (s *Server) locked(from mac, m message) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answer(from, m)
}

// warn tells the user that a guest found its address in use. mu is held.
func (s *Server) warn(c *client) {
	if now := s.now(); now.Sub(s.warned) > time.Minute && s.c.Warn != nil {
		s.warned = now
		s.c.Warn(fmt.Sprintf("VM %q found its address %s in use by another host", c.vm, c.address))
	}
}
