// Package dhcp serves DHCPv4 (RFC 2131, options of RFC 2132) and BOOTP (RFC 951) on a
// network's bridge from a packet socket. So a firewall that drops the host's input does
// not stop it, and it does not compete for port 67. It computes the checksums of its
// answers itself.
//
// It decides the address of each client from the client's MAC. A VM's NIC always gets
// the address reserved for it, whatever it asks for and whatever the clock says. Other
// clients get one of the prefix's last quarter. Client identifiers do not count, because
// cloned machines send the same.
//
// It touches its socket, which needs CAP_NET_RAW to open, and the lease file. A network's
// keeper has a [Server] that reserves addresses and writes the lease file, and its clerk one
// that has the socket. A [Server]'s
// methods may be called concurrently. How a message becomes an answer is pure but for
// the pool and the clock.
package dhcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/profiles"
)

// Config describes the network to serve.
type Config struct {
	Link      int              // the bridge's index
	MAC       net.HardwareAddr // the bridge's
	Prefix    netip.Prefix
	Address   netip.Addr // the host's in Prefix, as DHCP server, name server and, if Router, router
	Router    bool
	Domain    string // "" offers no DNS
	MTU       int
	PXE       profiles.PXE
	LeaseFile string                             // keeps addresses between runs; "" is none
	Known     io.Reader                          // the text of another server's lease file, for one that has none
	Kept      func(net.HardwareAddr, netip.Addr) // gets what a lease file would; it must not call the server
	Before    func()                             // called before each message is answered; may be nil
	Warn      func(string)                       // gets what the user should know, the same text once a minute at most
	Log       *slog.Logger
}

// Lease is one client with its address.
type Lease struct {
	MAC     string        `json:"mac"`
	Address netip.Addr    `json:"address"`
	Host    string        `json:"host,omitempty"`
	VM      bool          `json:"vm"`             // the client is a VM's NIC; its address is reserved
	Bound   bool          `json:"bound"`          // the client has taken it
	Left    time.Duration `json:"left,omitempty"` // until the lease ends, in nanoseconds; 0 for VMs' NICs

	// Address6 is reserved for a VM's NIC on a network with IPv6. Bound6 says that it has taken that.
	Address6 netip.Addr `json:"address6,omitzero"`
	Bound6   bool       `json:"bound6,omitempty"`
}

// State is a word for how far the client has got, or the time left of a lease that is no
// VM's.
func (l Lease) State() string {
	switch {
	case l.VM && l.Bound:
		return "taken"
	case l.VM:
		return "reserved"
	case l.Bound:
		return l.Left.String()
	}
	return "offered"
}

// State6 is a word for whether a VM's NIC has taken its IPv6 address.
func (l Lease) State6() string {
	if l.Bound6 {
		return "taken"
	}
	return "reserved"
}

// Server serves one network. Its methods may be called concurrently.
type Server struct {
	c    Config
	conn *packet.Conn

	mu     sync.Mutex // guards what follows
	pool   *pool
	file   *os.File
	lines  int                  // in the lease file
	warned map[string]time.Time // by text
}

// New returns a server that knows the addresses of the lease file. Listen opens its
// socket.
func New(c Config) (*Server, error) {
	s := &Server{c: c, pool: newPool(c.Prefix, c.Address), warned: map[string]time.Time{}}
	if c.Log == nil {
		s.c.Log = slog.New(slog.DiscardHandler)
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

const (
	serverPort = 67
	clientPort = 68
)

// readBuffer holds some 2,000 messages, at about 2 KiB of kernel memory each: a thousand
// clients that start together lose none.
const readBuffer = 4 << 20

// Listen opens the packet socket. It needs CAP_NET_RAW.
func (s *Server) Listen() error {
	conn, err := listen(s.c.Link, s.c.Log)
	s.conn = conn
	return err
}

func listen(link int, log *slog.Logger) (*packet.Conn, error) {
	conn, err := packet.Listen(link, packet.IPv4, packet.UDPTo(serverPort))
	if err != nil {
		return nil, fmt.Errorf("serve DHCP: %w", err)
	}
	if err := conn.SetReadBuffer(readBuffer); err != nil {
		log.Warn("serve DHCP", "error", err)
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
		return fmt.Errorf("serve DHCP: %w", err)
	}
	s.conn = conn
	return nil
}

// Serve answers until Close, and returns nil then; or until the link is gone.
func (s *Server) Serve() error {
	err := s.conn.Each(func(frame []byte) {
		if s.c.Before != nil {
			s.c.Before()
		}
		answer := s.contained(frame)
		if answer == nil {
			return
		}
		if err := s.conn.Write(answer); err != nil {
			s.c.Log.Warn("serve DHCP", "error", err)
		}
	})
	if err != nil {
		return fmt.Errorf("serve DHCP: %w", err)
	}
	return nil
}

// Close ends Serve and closes the lease file.
func (s *Server) Close() error {
	var err error
	if s.conn != nil {
		err = s.conn.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return err
}

// contained is handle, but that a panic is no answer: a mistake here in how a message is read
// costs its sender the answer, and not all guests their network.
func (s *Server) contained(frame []byte) (answer []byte) {
	defer func() {
		if cause := recover(); cause != nil {
			s.c.Log.Error("a DHCP message made the server panic", "cause", cause, "stack", string(debug.Stack()))
		}
	}()
	return s.handle(frame)
}

// handle returns the frame that answers a frame, or nil.
func (s *Server) handle(frame []byte) []byte {
	d, ok := packet.ParseDatagram(frame)
	if !ok || d.DstPort != serverPort {
		return nil
	}
	m, err := dhcpv4.FromBytes(d.Payload)
	if err != nil {
		return nil
	}
	r := s.locked(d.SrcMAC, m)
	if r == nil {
		return nil
	}
	return s.envelope(m, r).Frame()
}

// locked returns the answer to a message that came from a MAC. The lease of a VM's NIC is
// for messages from that NIC only: no other guest learns it, shows it as taken or declines it.
func (s *Server) locked(from net.HardwareAddr, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(m.ClientHWAddr) == 6 && !bytes.Equal(from, m.ClientHWAddr) {
		if l := s.pool.find(toMAC(m.ClientHWAddr)); l != nil && l.reserved {
			s.warn("client %s asks for the lease of %s, which is a NIC of VM %q", from, m.ClientHWAddr, l.host)
			return nil
		}
	}
	return s.answer(m)
}

// envelope addresses an answer (RFC 2131, section 4.1).
func (s *Server) envelope(m, r *dhcpv4.DHCPv4) packet.Datagram {
	d := packet.Datagram{
		SrcMAC: s.c.MAC, Src: s.c.Address, SrcPort: serverPort, DstPort: clientPort, Payload: r.ToBytes(),
		DstMAC: m.ClientHWAddr, Dst: toAddr(r.YourIPAddr),
	}
	ciaddr := toAddr(m.ClientIPAddr)
	switch {
	case r.MessageType() == dhcpv4.MessageTypeNak:
		d.DstMAC, d.Dst = packet.Broadcast, broadcast
	case ciaddr.IsValid() && !ciaddr.IsUnspecified():
		d.Dst = ciaddr
	case m.IsBroadcast(), d.Dst.IsUnspecified():
		d.DstMAC, d.Dst = packet.Broadcast, broadcast
	}
	return d
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Reserve gives a VM's NIC its address: wish, if that is valid. host is the VM's name.
// The error wraps ErrTaken or ErrFull.
func (s *Server) Reserve(a net.HardwareAddr, wish netip.Addr, host string) (netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := toMAC(a)
	got, err := s.pool.reserve(m, wish, host)
	if err != nil {
		return got, err
	}
	for other, l := range s.pool.leases {
		if other != m && l.host == host && !l.reserved {
			l.host = "" // VMs' names come first
		}
	}
	if s.pool.last[m] != got && !wish.IsValid() {
		s.pool.remember(m, got)
		s.keep(m, s.pool.leases[m])
	}
	return got, nil
}

// Release ends the reservation of a VM's NIC. The MAC gets the same address next time.
func (s *Server) Release(a net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.free(toMAC(a))
}

// Leases returns all clients, sorted by address.
func (s *Server) Leases() []Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pool.expire()
	var list []Lease
	for m, l := range s.pool.leases {
		entry := Lease{MAC: m.String(), Address: l.address, Host: l.host, VM: l.reserved, Bound: l.bound}
		if !l.reserved {
			entry.Left = l.ends.Sub(s.pool.now()).Truncate(time.Second)
		}
		list = append(list, entry)
	}
	order.By(list, func(a, b Lease) int { return a.Address.Compare(b.Address) })
	return list
}

// Lookup returns the addresses of the clients with that name, nil if there is none.
func (s *Server) Lookup(name string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []netip.Addr
	for _, l := range s.pool.leases {
		if l.host == name {
			found = append(found, l.address)
		}
	}
	order.By(found, netip.Addr.Compare)
	return found
}

// Reverse returns the name of the client with that address, "" if it has none.
func (s *Server) Reverse(a netip.Addr) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.pool.holders[a]; ok {
		return s.pool.leases[m].host
	}
	return ""
}

// name gives a client that is no VM's NIC the name that it asks for, if the name is a
// valid one and no other client has it.
func (s *Server) name(client mac, l *lease, m *dhcpv4.DHCPv4) {
	asked := strings.ToLower(strings.TrimSuffix(m.HostName(), "."+s.c.Domain))
	if l.reserved || asked == "" {
		return
	}
	if !validName(asked) {
		s.warn("client %s asks for the name %.80q, which is not a valid host name", client, asked)
		return
	}
	if why := profiles.Reserved(asked); why != "" {
		s.warn("client %s asks for the name %q, which %s", client, asked, why)
		return
	}
	for other, l := range s.pool.leases {
		if other != client && l.host == asked {
			s.warn("client %s asks for the name %q, which %s has", client, asked, other)
			return
		}
	}
	l.host = asked
}

// validName reports whether a host may have the name (RFC 1123, section 2.1).
func validName(name string) bool {
	if name == "" || len(name) > 63 || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

// maxWarnings bounds the warnings of one minute, whatever guests do.
const maxWarnings = 16

// warn tells the user something, the same text once a minute at most.
func (s *Server) warn(format string, args ...any) {
	text, now := fmt.Sprintf(format, args...), s.pool.now()
	maps.DeleteFunc(s.warned, func(_ string, said time.Time) bool { return now.Sub(said) > time.Minute })
	if _, said := s.warned[text]; said || len(s.warned) >= maxWarnings {
		return
	}
	s.warned[text] = now
	s.c.Log.Warn(text)
	if s.c.Warn != nil {
		s.c.Warn(text)
	}
}
