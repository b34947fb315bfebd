package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrPortTaken is wrapped by errors about a port that another socket holds.
var ErrPortTaken = errors.New("port taken")

const defaultPort = 53

// Listen opens the sockets in the calling thread's network namespace. Queries wait in
// them until Serve is called. To bind to port 53 needs CAP_NET_BIND_SERVICE, to bind to a
// link CAP_NET_RAW.
func Listen(c Config) (*Server, error) { return listen(c, defaultLimits()) }

func listen(c Config, l limits) (*Server, error) {
	if !c.Address.Is4() || !c.Prefix.Contains(c.Address) {
		return nil, fmt.Errorf("listen for DNS on %s: not an IPv4 address of %s", c.Address, c.Prefix)
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
	ctx := context.Background() // an address in numbers needs no look-up, so nothing waits
	tcp, tcpErr := config.Listen(ctx, "tcp4", at.String())
	tcpErr = listenError(overTCP, at, tcpErr)
	shared := errors.Is(tcpErr, ErrPortTaken) && wildcardOnly(findHolders("/proc", overTCP, at))
	if tcpErr != nil && !shared {
		return nil, tcpErr
	}
	udp, err := config.ListenPacket(ctx, "udp4", at.String())
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

// control sets the options of a socket before it is bound. Package net sets
// SO_REUSEADDR for TCP.
func (c Config) control(network, _ string, raw syscall.RawConn) error {
	var err error
	controlErr := raw.Control(func(fd uintptr) { err = c.setOptions(network, int(fd)) })
	return errors.Join(controlErr, err)
}

func (c Config) setOptions(network string, fd int) error {
	if network == "udp4" {
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
	return fmt.Errorf("listen for DNS on %s %s: %w%s", over, at, ErrPortTaken, describeHolders("/proc", over, at))
}
