package packet

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// cable makes the links left and right, which carry frames: a link whose carrier the kernel has not seen
// yet drops them.
const cable = `ip link add left type veth peer name right; ip link set left addrgenmode none up; ip link set right addrgenmode none up
until [ "$(cat /sys/class/net/left/operstate /sys/class/net/right/operstate | tr '\n' ' ')" = "up up " ]; do sleep 0.01; done`

// A frame that one end of a cable sends comes in at the other end, and the sending host's
// other sockets see it, too.
func TestConn(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, cable)
		listen := func(link string, filter []bpf.Instruction) *Conn {
			t.Helper()
			l, err := net.InterfaceByName(link)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Listen(l.Index, All, filter)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		sender, a, b := listen("left", nil), listen("left", nil), listen("right", Neighbours)
		question, other := ARPRequest(ours, ip4, gw4), NeighbourSolicitation(ours, ip6, gw6)
		for _, frame := range [][]byte{other, question} {
			if err := sender.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		read := func(c *Conn) (frame []byte, out bool) {
			t.Helper()
			buf := make([]byte, 2048)
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, out, err := c.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			return buf[:n], out
		}
		if frame, out := read(a); !slices.Equal(frame, other) || !out {
			t.Errorf("the sending link shows %x, out %v", frame, out)
		}
		if frame, out := read(b); !slices.Equal(frame, question) || out {
			t.Errorf("behind the filter comes %x, out %v", frame, out)
		}
		if err := b.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after the deadline: got %v", err)
		}
		if err := b.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "ip link set right down")
		if _, _, err := b.Read(make([]byte, 1)); !errors.Is(err, unix.ENETDOWN) {
			t.Errorf("the link is down: got %v", err)
		}
		if err := b.Write(question); !errors.Is(err, unix.ENETDOWN) {
			t.Errorf("the link is down: write got %v", err)
		}
		time.AfterFunc(10*time.Millisecond, func() { b.Close() })
		if _, _, err := b.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("closed meanwhile: got %v", err)
		}
		if err := errors.Join(sender.Close(), a.Close(), a.Close(), b.Close()); err != nil {
			t.Errorf("close again: %v", err)
		}
	})
}

// A socket for another process stays on its link and keeps its filter: nobody can change that one.
func TestFileKeepsLinkAndFilter(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, cable)
		left, err := net.InterfaceByName("left")
		if err != nil {
			t.Fatal(err)
		}
		right, err := net.InterfaceByName("right")
		if err != nil {
			t.Fatal(err)
		}
		here, err := Listen(left.Index, IPv4, UDPTo(67))
		if err != nil {
			t.Fatal(err)
		}
		there, err := Listen(right.Index, All, Neighbours)
		if err != nil {
			t.Fatal(err)
		}
		defer there.Close()
		f, err := here.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fd, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Use(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetFilter(nil); !errors.Is(err, unix.EPERM) {
			t.Errorf("change filter: %v", err)
		}
		want := ARPRequest(ours, ip4, gw4)
		if err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		there.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 2048)
		if n, _, err := there.Read(b); err != nil || !slices.Equal(b[:n], want) {
			t.Errorf("got %x, %v", b[:n], err)
		}
	})
}

func TestListenRefused(t *testing.T) {
	if _, err := Listen(1<<30, All, nil); err == nil {
		t.Error("a link that is not there, or no right to open it")
	}
}

// Exchange reads from a socket until its context ends.
func TestExchangeOnALink(t *testing.T) {
	lab.Run(t, func(t *testing.T) {
		lab.Sh(t, cable)
		l, err := net.InterfaceByName("left")
		if err != nil {
			t.Fatal(err)
		}
		c, err := Listen(l.Index, All, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sender, err := Listen(l.Index, None, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer sender.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		asked, seen := 0, 0
		ask := func() error {
			asked++
			return sender.Write(ARPRequest(ours, ip4, gw4))
		}
		err = Exchange(ctx, c, 100*time.Millisecond, ask, func(_ []byte, out bool) bool {
			if out {
				seen++
			}
			return false
		})
		if !errors.Is(err, context.DeadlineExceeded) || asked < 2 || seen < 2 {
			t.Errorf("got %v after %d questions, of which the link shows %d", err, asked, seen)
		}
	})
}
