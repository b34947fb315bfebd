package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/internal/sockets"
)

// ErrPortTaken is wrapped by errors about a port that another socket holds.
var ErrPortTaken = errors.New("port taken")

const defaultPort = 53

// Listen opens the sockets in the calling thread's network namespace. Queries wait in
// them until Serve is called. To bind to port 53 needs CAP_NET_BIND_SERVICE, to bind to a
// link CAP_NET_RAW.
func Listen(c Config) (*Server, error) { return listen(c, defaultLimits()) }

func listen(c Config, l limits) (*Server, error) {
	if !c.Prefix.Contains(c.Address) {
		return nil, fmt.Errorf("listen for DNS on %s: not an address of %s", c.Address, c.Prefix)
	}
	if c.Port == 0 {
		c.Port = defaultPort
	}
	at := netip.AddrPortFrom(c.Address, c.Port)
	config := net.ListenConfig{Control: c.control}
	// With several paths there would be a second kind of socket to bind to the link.
	config.SetMultipathTCP(false)
	// TCP comes first because it is strict: a second server on our address is an error,
	// although UDP would share the port with it. A server on all addresses is no reason
	// to give up: the kernel prefers our UDP socket, bound to address and link, to that
	// server's. Only TCP, for answers too long for UDP, is lost.
	family := "4"
	if c.Address.Is6() {
		family = "6"
	}
	ctx := context.Background() // an address in numbers needs no look-up, so nothing waits
	tcp, tcpErr := config.Listen(ctx, "tcp"+family, at.String())
	tcpErr = listenError(overTCP, at, tcpErr)
	shared := errors.Is(tcpErr, ErrPortTaken) && sockets.WildcardOnly(sockets.Find("/proc", sockets.TCP, at.Port(), sockets.Prevents(at.Addr())))
	if tcpErr != nil && !shared {
		return nil, tcpErr
	}
	udp, err := config.ListenPacket(ctx, "udp"+family, at.String())
	if err != nil {
		if tcp != nil {
			tcp.Close() //nolint:errcheck // nothing was served on it
		}
		return nil, listenError(overUDP, at, err)
	}
	s := newServer(c, l, udp.(*net.UDPConn))
	s.withoutTCP = tcpErr
	s.tcp, _ = tcp.(*net.TCPListener)
	return s, nil
}

// Sockets are those of a Server for another process.
type Sockets struct {
	UDP, TCP   *os.File // TCP is nil where the port is taken
	WithoutTCP error    // of Server.WithoutTCP
}

// Open opens the sockets of a server in another process, which gets them for Use. Queries
// wait in them meanwhile, and wake nobody here.
func Open(c Config) (Sockets, error) {
	server, err := Listen(c)
	if err != nil {
		return Sockets{}, err
	}
	defer server.Close() //nolint:errcheck // the copies stay open
	s := Sockets{WithoutTCP: server.withoutTCP}
	s.UDP, err = packet.Copy(server.udp)
	if err == nil && server.tcp != nil {
		s.TCP, err = packet.Copy(server.tcp)
	}
	if err != nil {
		s.Close()
		return Sockets{}, fmt.Errorf("listen for DNS: %w", err)
	}
	return s, nil
}

// Close closes the sockets.
func (s Sockets) Close() {
	for _, f := range []*os.File{s.UDP, s.TCP} {
		if f != nil {
			f.Close()
		}
	}
}

// Use returns a server on the sockets of Open. It closes the files.
func Use(c Config, udp, tcp *os.File) (*Server, error) {
	defer Sockets{UDP: udp, TCP: tcp}.Close()
	conn, err := net.FilePacketConn(udp)
	if err != nil {
		return nil, fmt.Errorf("serve DNS: %w", err)
	}
	s := newServer(c, defaultLimits(), conn.(*net.UDPConn))
	if tcp == nil {
		return s, nil
	}
	l, err := net.FileListener(tcp)
	if err != nil {
		conn.Close() //nolint:errcheck // nothing was served on it
		return nil, fmt.Errorf("serve DNS over TCP: %w", err)
	}
	s.tcp = l.(*net.TCPListener)
	return s, nil
}

// Descriptor returns the number of the descriptor by which the server answers over UDP.
func (s *Server) Descriptor() (n int, err error) {
	raw, err := s.udp.SyscallConn()
	if err != nil {
		return 0, err
	}
	return n, raw.Control(func(fd uintptr) { n = int(fd) })
}

// Holders names the processes that hold port 53 on all addresses of the caller's network
// namespace: " by dnsmasq (pid 812) at 0.0.0.0:53"; "" where the port is free. To name
// other users' processes takes CAP_SYS_PTRACE, which a keeper lacks.
func Holders() string {
	if none, err := sockets.NoListener(defaultPort); err == nil && none {
		return ""
	}
	return sockets.Describe("/proc", sockets.TCP, defaultPort, netip.Addr.IsUnspecified)
}

// control sets the options of a socket before it is bound. Package net sets
// SO_REUSEADDR for TCP.
func (c Config) control(network, _ string, raw syscall.RawConn) error {
	var err error
	controlErr := raw.Control(func(fd uintptr) { err = c.setOptions(network, int(fd)) })
	return errors.Join(controlErr, err)
}

func (c Config) setOptions(network string, fd int) error {
	if strings.HasPrefix(network, "udp") {
		// dnsmasq holds the port on all addresses, and shares it with this option.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("share port: %w", err)
		}
	}
	if c.Link == "" {
		return nil
	}
	if err := unix.BindToDevice(fd, c.Link); err != nil {
		return fmt.Errorf("bind to link %q: %w", c.Link, err)
	}
	return nil
}

func listenError(over transport, at netip.AddrPort, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("listen for DNS: %w", err)
	}
	return fmt.Errorf("listen for DNS on %s %s: %w%s", over, at, ErrPortTaken, sockets.Describe("/proc", string(over), at.Port(), sockets.Prevents(at.Addr())))
}
