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
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/sockets"
)

func TestListenNamesHolder(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	me := fmt.Sprintf(" by %s (pid %d) at ", strings.TrimSpace(string(comm)), os.Getpid())
	for _, test := range []struct {
		over transport
		host string // where the holder listens; "" is our address
	}{{overTCP, ""}, {overUDP, ""}, {overUDP, "0.0.0.0"}} {
		t.Run(string(test.over)+test.host, func(t *testing.T) {
			at := freePort(t)
			where := at.String()
			if test.host != "" {
				where = fmt.Sprintf("%s:%d", test.host, at.Port())
			}
			hold(t, test.over, where, nil)
			s, err := Listen(Config{Address: at.Addr(), Port: at.Port(), Prefix: loopback})
			if err == nil {
				s.Close()
				t.Fatal("listens on a port that is taken")
			}
			if !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), me+where) {
				t.Errorf("got %q, want one with %q", err, me+where)
			}
		})
	}
}

// A server on all addresses keeps us from TCP only, and is named.
func TestListenBesideWildcardTCP(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "[::]"} {
		at := freePort(t)
		hold(t, overTCP, fmt.Sprintf("%s:%d", host, at.Port()), nil)
		s, err := Listen(Config{Address: at.Addr(), Port: at.Port(), Prefix: loopback})
		if err != nil {
			t.Fatal(err)
		}
		go s.Serve()
		if err := s.WithoutTCP(); !errors.Is(err, ErrPortTaken) || !strings.Contains(err.Error(), host) {
			t.Errorf("%s: got %v", host, err)
		}
		s.Close()
	}
}

// dnsmasq holds UDP on all addresses with SO_REUSEADDR.
func TestListenBesideWildcard(t *testing.T) {
	at := freePort(t)
	hold(t, overUDP, fmt.Sprintf("0.0.0.0:%d", at.Port()), func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	})
	s, err := Listen(Config{Address: at.Addr(), Port: at.Port(), Prefix: loopback})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestListenTwice(t *testing.T) {
	at := freePort(t)
	c := Config{Address: at.Addr(), Port: at.Port(), Prefix: loopback}
	first, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := Listen(c); !errors.Is(err, ErrPortTaken) {
		t.Errorf("got %v, want ErrPortTaken", err)
	}
}

func TestListenErrors(t *testing.T) {
	at := freePort(t)
	for name, c := range map[string]Config{
		"outside-prefix": {Address: netip.MustParseAddr("10.0.2.1"), Prefix: loopback},
		"outside-ipv6":   {Address: netip.IPv6Loopback(), Prefix: netip.MustParsePrefix("fd00::/64")},
		"no-such-link":   {Address: at.Addr(), Port: at.Port(), Prefix: loopback, Link: "qnet-none"},
		"not-ours":       {Address: netip.MustParseAddr("192.0.2.1"), Port: at.Port(), Prefix: netip.MustParsePrefix("192.0.2.0/24")},
	} {
		s, err := Listen(c)
		if err == nil {
			s.Close()
		}
		if err == nil || errors.Is(err, ErrPortTaken) || !strings.HasPrefix(err.Error(), "listen for DNS") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// hold takes the port until the test ends.
func hold(t *testing.T, over transport, where string, control func(string, string, syscall.RawConn) error) {
	t.Helper()
	c := net.ListenConfig{Control: control}
	c.SetMultipathTCP(false)
	if over == overTCP {
		network := "tcp4"
		if strings.HasPrefix(where, "[") {
			network = "tcp"
		}
		l, err := c.Listen(context.Background(), network, where)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return
	}
	l, err := c.ListenPacket(context.Background(), "udp4", where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// Whether anything listens on a port is known without a look at the table of connections.
func TestNoListener(t *testing.T) {
	for name, c := range map[string]struct {
		over  transport
		where string // of the socket, before its port; "" for none
		want  bool
	}{
		"nothing":              {want: true},
		"a socket of UDP":      {over: overUDP, where: "127.0.0.1", want: true},
		"one address":          {over: overTCP, where: "127.0.0.1"},
		"all addresses":        {over: overTCP, where: "0.0.0.0"},
		"all, of IPv6 as well": {over: overTCP, where: "[::]"},
	} {
		at := freePort(t)
		if c.where != "" {
			hold(t, c.over, fmt.Sprintf("%s:%d", c.where, at.Port()), nil)
		}
		if got, err := sockets.NoListener(at.Port()); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, c.want)
		}
	}
}
