package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/profiles/ports"
)

const soon = 30 * time.Second

// socketOf opens a socket as the keeper does, at a free port.
func socketOf(t *testing.T, network, address string) (*os.File, netip.AddrPort) {
	t.Helper()
	config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			switch network {
			case "udp4":
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			case "udp6":
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
		})
	}}
	var open interface {
		File() (*os.File, error)
		Close() error
	}
	var at string
	if network == "udp" {
		c, err := config.ListenPacket(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		open, at = c.(*net.UDPConn), c.LocalAddr().String()
	} else {
		l, err := config.Listen(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		open, at = l.(*net.TCPListener), l.Addr().String()
	}
	defer open.Close()
	f, err := open.File()
	if err != nil {
		t.Fatal(err)
	}
	return f, netip.MustParseAddrPort(at)
}

// forwarded relays a new port to the address, and returns the port's address.
func forwarded(t *testing.T, r *Relay, network, listen, to string) (ports.Forward, netip.AddrPort) {
	t.Helper()
	f, at := socketOf(t, network, listen)
	var target netip.AddrPort
	if to != "" {
		target = netip.MustParseAddrPort(to)
	}
	forward := ports.Forward{Proto: network, Address: at.Addr(), Port: at.Port(), Guest: target.Port()}
	if err := r.Add(forward, f, func() (netip.AddrPort, time.Duration) { return target, time.Second }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return forward, at
}

// guest serves TCP as a guest does, until the test's end.
func guest(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

func echo(c *net.TCPConn) { io.Copy(c, c) }

func dial(t *testing.T, at netip.AddrPort) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", at.String(), soon)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(soon))
	return c.(*net.TCPConn)
}

// resetSoon wants a connection to be reset.
func resetSoon(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

// resetOnDial wants a connection to be reset before it carries anything: while it is made, or
// just after that.
func resetOnDial(t *testing.T, at netip.AddrPort) {
	t.Helper()
	c, err := net.DialTimeout("tcp", at.String(), soon)
	if err != nil {
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("got %v, want a reset", err)
		}
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(soon))
	resetSoon(t, c)
}

func TestBothHalvesOfConnections(t *testing.T) {
	var r Relay
	forward, at := forwarded(t, &r, "tcp", "127.0.0.1:0", guest(t, func(c *net.TCPConn) {
		all, _ := io.ReadAll(c) // until the client's half ends
		c.Write(bytes.ToUpper(all))
	}))
	c := dial(t, at)
	io.WriteString(c, "hello")
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "HELLO" {
		t.Errorf("got %q, %v", got, err)
	}
	eventually(t, func() bool { return r.Count(forward) == Count{Total: 1, In: 5, Out: 5} }, func() any { return r.Count(forward) })
}

// A guest that sends nothing more is heard of as well, and still listens.
func TestGuestsHalfEndsFirst(t *testing.T) {
	got := make(chan string, 1)
	var r Relay
	_, at := forwarded(t, &r, "tcp", "[::1]:0", guest(t, func(c *net.TCPConn) {
		c.CloseWrite()
		all, _ := io.ReadAll(c)
		got <- string(all)
	}))
	c := dial(t, at)
	if all, err := io.ReadAll(c); err != nil || len(all) > 0 {
		t.Fatalf("got %q, %v", all, err)
	}
	io.WriteString(c, "late")
	c.Close()
	select {
	case s := <-got:
		if s != "late" {
			t.Errorf("got %q", s)
		}
	case <-time.After(soon):
		t.Error("the guest never saw the end")
	}
}

func TestClosedPortsReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for name, to := range map[string]string{"nothing listens": l.Addr().String(), "no address": ""} {
		t.Run(name, func(t *testing.T) {
			var r Relay
			_, at := forwarded(t, &r, "tcp", "127.0.0.1:0", to)
			resetOnDial(t, at)
		})
	}
}

// A dial that nobody answers ends.
func TestDialsTimeOut(t *testing.T) {
	full, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	unix.Bind(full, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	unix.Listen(full, 0) // a queue of one, which is never emptied
	sa, _ := unix.Getsockname(full)
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	dial(t, to)
	var r Relay
	_, at := forwarded(t, &r, "tcp", "127.0.0.1:0", to.String())
	resetOnDial(t, at)
}

func TestResetsPass(t *testing.T) {
	t.Run("of the guest", func(t *testing.T) {
		var r Relay
		_, at := forwarded(t, &r, "tcp", "127.0.0.1:0", guest(t, func(c *net.TCPConn) {
			c.Read(make([]byte, 1))
			c.SetLinger(0)
		}))
		c := dial(t, at)
		io.WriteString(c, "x")
		resetSoon(t, c)
	})
	for name, half := range map[string]bool{"of the client": false, "of a client behind its half": true} {
		t.Run(name, func(t *testing.T) {
			begun, got := make(chan bool, 1), make(chan error, 1)
			var r Relay
			forward, at := forwarded(t, &r, "tcp", "127.0.0.1:0", guest(t, func(c *net.TCPConn) {
				if half {
					io.Copy(io.Discard, c)
				} else {
					c.Read(make([]byte, 1))
				}
				begun <- true
				if !half {
					_, err := c.Read(make([]byte, 1))
					got <- err
					return
				}
				for { // its other half is open: only a write tells
					if _, err := c.Write([]byte("x")); err != nil {
						got <- err
						return
					}
					time.Sleep(time.Millisecond)
				}
			}))
			c := dial(t, at)
			io.WriteString(c, "x")
			if half {
				c.CloseWrite()
			}
			<-begun
			c.SetLinger(0)
			c.Close()
			select {
			case err := <-got:
				if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
					t.Errorf("got %v, want a reset", err)
				}
			case <-time.After(soon):
				t.Error("the guest never saw the reset")
			}
			eventually(t, func() bool { return r.Count(forward).Connections == 0 }, func() any { return r.Count(forward) })
		})
	}
}

// A client that is reset behind its half is passed on also to a guest that sends nothing.
func TestResetBehindHalfToSilentGuest(t *testing.T) {
	begun, silent := make(chan bool, 1), make(chan bool)
	defer close(silent)
	var r Relay
	forward, at := forwarded(t, &r, "tcp", "127.0.0.1:0", guest(t, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		begun <- true
		<-silent
	}))
	c := dial(t, at)
	c.CloseWrite()
	<-begun
	c.SetLinger(0)
	c.Close()
	eventually(t, func() bool { return r.Count(forward).Connections == 0 }, func() any { return r.Count(forward) })
}

// A thousand connections at once all echo, and leave no file behind.
func TestThousandConnections(t *testing.T) {
	var r Relay
	forward, at := forwarded(t, &r, "tcp", "127.0.0.1:0", guest(t, echo))
	before := files(t)
	const n = 1000
	var all sync.WaitGroup
	conns := make([]*net.TCPConn, n)
	for i := range conns {
		conns[i] = dial(t, at)
	}
	for i, c := range conns {
		all.Go(func() {
			want, got := bytes.Repeat([]byte{byte(i)}, 2000), make([]byte, 2000)
			c.Write(want)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if c := r.Count(forward); c != (Count{Connections: n, Total: n, In: n * 2000, Out: n * 2000}) {
		t.Errorf("while they are open: got %+v", c)
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, func() bool { return r.Count(forward) == Count{Total: n, In: n * 2000, Out: n * 2000} }, func() any { return r.Count(forward) })
	eventually(t, func() bool {
		runtime.GC() // closes the pipes of splice(2) that are kept for later
		return files(t) <= before
	}, func() any { return files(t) })
}

// More connections than there are seats are reset, and those of before go on.
func TestConnectionsAreBounded(t *testing.T) {
	r := Relay{forwards: map[ports.Forward]forward{}, seats: &seats{most: 1}}
	forward, at := forwarded(t, &r, "tcp", "127.0.0.1:0", guest(t, echo))
	first := dial(t, at)
	eventually(t, func() bool { return r.Count(forward).Connections == 1 }, func() any { return r.Count(forward) })
	resetOnDial(t, at)
	io.WriteString(first, "x")
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	first.Close()
	eventually(t, func() bool { return r.Count(forward).Connections == 0 }, func() any { return r.Count(forward) })
	again := dial(t, at)
	io.WriteString(again, "x")
	if _, err := io.ReadFull(again, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// A reader that is slow gets all, and its server waits.
func TestSlowReader(t *testing.T) {
	want := make([]byte, 16<<20)
	rand.Read(want)
	var r Relay
	_, at := forwarded(t, &r, "tcp", "127.0.0.1:0", guest(t, func(c *net.TCPConn) { c.Write(want) }))
	c := dial(t, at)
	time.Sleep(200 * time.Millisecond) // of its slowness: the buffers on the way are full
	var got bytes.Buffer
	for range 50 {
		io.CopyN(&got, c, 1000)
		time.Sleep(time.Millisecond)
	}
	if _, err := io.Copy(&got, c); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got %d bytes of %d, %v", got.Len(), len(want), err)
	}
}

// What is removed ends at once, with its connections; the others go on.
func TestRemove(t *testing.T) {
	var r Relay
	to := guest(t, echo)
	forward, at := forwarded(t, &r, "tcp", "127.0.0.1:0", to)
	_, other := forwarded(t, &r, "tcp", "127.0.0.1:0", to)
	c, stays := dial(t, at), dial(t, other)
	for _, c := range []net.Conn{c, stays} {
		io.WriteString(c, "x")
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if !r.Remove(forward) || r.Remove(forward) {
		t.Error("Remove should report what it removed")
	}
	resetSoon(t, c)
	if c, err := net.Dial("tcp", at.String()); err == nil {
		c.Close()
		t.Error("the port still listens")
	}
	io.WriteString(stays, "y")
	if _, err := io.ReadFull(stays, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	r.Close()
	resetSoon(t, stays)
	f, _ := socketOf(t, "tcp", "127.0.0.1:0")
	if err := r.Add(forward, f, nil); err == nil {
		t.Error("a closed relay took a forward")
	}
}

func files(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// eventually waits until what the kernel or a goroutine still does is done.
func eventually(t *testing.T, done func() bool, got func() any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("got %+v", got())
		case <-time.After(time.Millisecond):
		}
	}
}
