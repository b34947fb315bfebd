package keeper_test

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
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/ports"
)

// at is a forward to port 80 of the guest; address "*" is any.
func at(proto, address string, port uint16) keeper.Forward {
	f := keeper.Forward{Proto: proto, Port: port, Guest: 80}
	if address != "*" {
		f.Address = netip.MustParseAddr(address)
	}
	return f
}

// withForwards is the request of one NIC for forwards.
func withForwards(last byte, list ...keeper.Forward) []PortRequest {
	requests := port(last)
	requests[0].Forwards = list
	return requests
}

// natNet is the network of the tests of forwards.
var natNet = Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}

// What listens is bound when Join returns: of TCP it accepts, of UDP it tells where a packet was
// sent to.
func TestForwardsAreBound(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		list := []keeper.Forward{at("tcp", "127.0.0.1", 8080), at("tcp", "::1", 8080), at("tcp", "*", 80), at("udp", "*", 54), at("udp", "192.0.2.10", 5300)}
		r := mustJoin(t, o, natNet, "web", withForwards(1, list...))
		defer mustLeave(t, r)
		p := r.Ports()[0]
		if len(p.Forwards) != len(list) || len(p.Sockets) != len(list) {
			t.Fatalf("got %v, %d sockets", p.Forwards, len(p.Sockets))
		}
		for i, f := range list {
			if p.Forwards[i].Forward != f {
				t.Errorf("got %s, want %s", p.Forwards[i], f)
			}
		}
		for _, address := range []string{"127.0.0.1:8080", "[::1]:8080", "192.0.2.10:80", "127.0.0.1:80", "[::1]:80"} {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				t.Error(err)
				continue
			}
			c.Close()
		}
		for _, i := range []int{3, 4} {
			tellsDestination(t, p.Sockets[i], fmt.Sprintf("192.0.2.10:%d", list[i].Port))
		}
	})
}

// tellsDestination sends a packet to a forward's socket.
func tellsDestination(t *testing.T, socket *os.File, to string) {
	t.Helper()
	conn, err := net.FilePacketConn(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := net.Dial("udp", to)
	if err == nil {
		_, err = c.Write([]byte("hello"))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	oob := make([]byte, 128)
	n, oobn, _, _, err := conn.(*net.UDPConn).ReadMsgUDPAddrPort(make([]byte, 16), oob)
	if err != nil || n != 5 || !strings.Contains(string(oob[:oobn]), string([]byte{192, 0, 2, 10})) {
		t.Errorf("%s: %d bytes, %x, %v", to, n, oob[:oobn], err)
	}
}

// Table A4: what one socket has, no other gets.
func TestTakenPortsAreRefused(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		for _, c := range []struct {
			other, want string
			taken       bool
		}{
			{"127.0.0.1", "*", true},
			{"127.0.0.1", "0.0.0.0", true},
			{"127.0.0.1", "127.0.0.1", true},
			{"127.0.0.1", "192.0.2.10", false},
			{"127.0.0.1", "::1", false},
			{"127.0.0.1", "::", false},
			{"0.0.0.0", "127.0.0.1", true},
			{"0.0.0.0", "192.0.2.10", true},
			{"0.0.0.0", "*", true},
			{"0.0.0.0", "::1", false},
			{"192.0.2.10", "127.0.0.1", false},
			{"192.0.2.10", "0.0.0.0", true},
			{"192.0.2.10", "*", true},
			{"::1", "*", true},
			{"::1", "::", true},
			{"::1", "127.0.0.1", false},
			{"*", "127.0.0.1", true},
			{"*", "::1", true},
			{"*", "192.0.2.10", true},
		} {
			for _, proto := range []string{"tcp", "udp"} {
				other := at(proto, c.other, 8080)
				for name, opens := range map[string]func() (*os.File, error){
					"":                    func() (*os.File, error) { return forward.Listen(other) },
					", with SO_REUSEPORT": func() (*os.File, error) { return reusing(other) },
				} {
					tryTaken(t, o, fmt.Sprintf("%s%s, then %s %s", c.other, name, proto, c.want), opens, at(proto, c.want, 8080), c.taken)
				}
			}
		}
	})
}

// tryTaken joins with a forward while another socket is open.
func tryTaken(t *testing.T, o Options, name string, opens func() (*os.File, error), want keeper.Forward, taken bool) {
	t.Helper()
	other, err := opens()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer other.Close()
	r, err := Join(t.Context(), o, natNet, "web", withForwards(1, want))
	if err == nil {
		mustLeave(t, r)
	}
	failed, typed := errors.AsType[*keeper.ForwardError](err)
	switch {
	case taken != (err != nil):
		t.Errorf("%s: %v", name, err)
	case taken && (!typed || failed.Forward != want || !errors.Is(err, unix.EADDRINUSE) || !errors.Is(err, host.ErrRefused)):
		t.Errorf("%s: %#v", name, err)
	case taken && !strings.Contains(err.Error(), fmt.Sprintf("%s port 8080 is taken by exe (pid %d) at ", want.Proto, os.Getpid())):
		t.Errorf("%s: %v", name, err)
	}
}

// reusing opens the socket of another program, which shares its port by SO_REUSEPORT.
func reusing(f keeper.Forward) (*os.File, error) {
	six := 0
	if f.Address.IsValid() {
		six = 1
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, six) // of IPv4 it fails
		})
	}}
	network, address := f.Proto, f.Listens()
	switch {
	case f.Address.Is4():
		network += "4"
	case f.Address.Is6():
		network += "6"
	default:
		address = fmt.Sprintf("[::]:%d", f.Port)
	}
	if f.Proto == "udp" {
		c, err := config.ListenPacket(context.Background(), network, address)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.(*net.UDPConn).File()
	}
	l, err := config.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}

// A VM that cannot have one forward has none, and starts nothing. The VM that has the port is
// named, also where it is on another network.
func TestForwardsAreAllOrNone(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		db := mustJoin(t, o, Network{Name: "lan", Mode: profiles.HostOnly}, "db", withForwards(9, at("tcp", "*", 5432)))
		defer mustLeave(t, db)
		list := []keeper.Forward{at("tcp", "127.0.0.1", 8080), at("tcp", "127.0.0.1", 5432)}
		_, err := Join(t.Context(), o, natNet, "web", withForwards(1, list...))
		if want := `join network "dev": forward 127.0.0.1:5432:80: tcp port 5432 is taken by VM "db", of network "lan": stop it, or forward another port`; err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		lab.Sh(t, "! ip link show qn-dev 2>&1; ! ss -Hltn sport = :8080 | grep 8080")

		_, err = Join(t.Context(), o, natNet, "web", withForwards(1, at("tcp", "198.51.100.77", 8080)))
		if !errors.Is(err, unix.EADDRNOTAVAIL) || !strings.Contains(err.Error(), "the host has no address 198.51.100.77") {
			t.Errorf("an address that the host lacks: %v", err)
		}
		for name, wrong := range map[string][]PortRequest{
			"it listens where":          withForwards(1, at("tcp", "127.0.0.1", 8080), at("tcp", "*", 8080)),
			"allowed: tcp, udp":         withForwards(1, at("sctp", "127.0.0.1", 8080)),
			"allowed: 1 to 65535":       withForwards(1, at("tcp", "127.0.0.1", 0)),
			"allowed: one of the host'": withForwards(1, at("tcp", "224.0.0.1", 8080)),
			"link-local":                withForwards(1, at("tcp", "fe80::1", 8080)),
		} {
			if _, err := Join(t.Context(), o, natNet, "web", wrong); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := Join(t.Context(), o, natNet, "web", withForwards(1, at("udp", "*", 53))); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), "is qnet's own") {
			t.Errorf("port 53 at all addresses: %v", err)
		}
		for why, n := range map[string]Network{
			"mode private": {Name: "p", Mode: profiles.Private},
			"by macvtap":   {Name: "m", Mode: profiles.Bridge, Uplink: "eth0", Macvtap: true},
		} {
			if _, err := Join(t.Context(), o, n, "web", withForwards(1, at("tcp", "*", 8080))); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v", why, err)
			}
		}
	})
}

// The kernel passes 253 files with a message; a VM has 256 forwards, and a tap.
func TestMostForwards(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		var list []keeper.Forward
		for i := range uint16(ports.Most) {
			list = append(list, at("tcp", "127.0.0.1", 9000+i))
		}
		r := mustJoin(t, o, natNet, "web", withForwards(1, list...))
		p := r.Ports()[0]
		if p.File == nil || len(p.Sockets) != ports.Most {
			t.Fatalf("tap %v, %d sockets", p.File, len(p.Sockets))
		}
		for i, s := range p.Sockets {
			l, err := net.FileListener(s)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Addr().String(); got != fmt.Sprintf("127.0.0.1:%d", 9000+i) {
				t.Fatalf("socket %d is that of %s", i, got)
			}
			l.Close()
		}
		if _, err := r.Forward(t.Context(), 0, []keeper.Forward{at("tcp", "127.0.0.1", 80)}); !errors.Is(err, host.ErrRefused) {
			t.Errorf("one more: %v", err)
		}
		mustLeave(t, r)
		lab.Sh(t, "! ss -Hltn | grep 127.0.0.1:9")
		list = append(list, at("tcp", "127.0.0.1", 80))
		if _, err := Join(t.Context(), o, natNet, "web", withForwards(1, list...)); !errors.Is(err, host.ErrRefused) {
			t.Errorf("257: %v", err)
		}
	})
}

// Forwards come and go while the VM runs, and the next keeper knows of them.
func TestForwardsLive(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, natNet, "web", port(1))
		defer mustLeave(t, r)
		web, both := at("tcp", "127.0.0.1", 8080), []keeper.Forward{at("udp", "::1", 53), at("udp", "127.0.0.1", 53)}
		files, err := r.Forward(t.Context(), 0, []keeper.Forward{web})
		if err != nil || len(files) != 1 || files[0] == nil {
			t.Fatalf("got %v, %v", files, err)
		}
		if _, err := r.Forward(t.Context(), 0, []keeper.Forward{both[0], web}); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), `by VM "web"`) {
			t.Errorf("taken by itself: %v", err)
		}
		if _, err := r.Forward(t.Context(), 3, []keeper.Forward{web}); !errors.Is(err, host.ErrRefused) {
			t.Errorf("no such NIC: %v", err)
		}
		two, err := r.Forward(t.Context(), 0, both)
		if err != nil || len(two) != 2 {
			t.Fatalf("got %v, %v", two, err)
		}
		if got := forwardsOf(t, o); got != "127.0.0.1:8080:80 [::1]:53:80/udp 127.0.0.1:53:80/udp" {
			t.Errorf("got %q", got)
		}
		replaceKeeper(t, o)
		if err := r.Unforward(t.Context(), 0, both); err != nil {
			t.Error(err)
		}
		if err := r.Unforward(t.Context(), 0, both); !errors.Is(err, host.ErrRefused) {
			t.Errorf("removed twice: %v", err)
		}
		if got := forwardsOf(t, o); got != "127.0.0.1:8080:80" {
			t.Errorf("got %q", got)
		}
		forward.CloseAll(append(files, two...))
	})
}

// forwardsOf are the forwards of all VMs, as the keepers tell.
func forwardsOf(t *testing.T, o Options) string {
	t.Helper()
	return ofForwards(t, o, func(f keeper.Forwarded) string { return f.String() })
}

// ofForwards has a word for each forward of all VMs, as the keepers tell.
func ofForwards(t *testing.T, o Options, word func(keeper.Forwarded) string) string {
	t.Helper()
	infos, err := List(t.Context(), o.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, n := range infos {
		for _, vm := range n.VMs {
			for _, p := range vm.Ports {
				for _, f := range p.Forwards {
					words = append(words, word(f))
				}
			}
		}
	}
	return strings.Join(words, " ")
}

// replaceKeeper kills the only keeper, and waits for the next one.
func replaceKeeper(t *testing.T, o Options) {
	t.Helper()
	pid := func() (int, int) {
		infos, err := List(t.Context(), o.RunDir)
		if err != nil || len(infos) != 1 {
			return 0, 0
		}
		return infos[0].KeeperPID, len(infos[0].VMs)
	}
	before, vms := pid()
	if err := unix.Kill(before, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 10*time.Second, "next keeper", func() bool {
		now, back := pid()
		return now != 0 && now != before && back == vms
	})
}

// Without IPv6 the default, 127.0.0.1 and ::1, is 127.0.0.1 alone, and "*" is IPv4's.
func TestForwardsWithoutIPv6(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		lab.Sh(t, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
		defer lab.Sh(t, "sysctl -qw net.ipv6.conf.all.disable_ipv6=0")
		r := mustJoin(t, o, natNet, "web", withForwards(1, at("tcp", "127.0.0.1", 8080), at("tcp", "::1", 8080), at("tcp", "*", 81)))
		if got := forwardsOf(t, o); got != "127.0.0.1:8080:80 *:81:80" || len(r.Ports()[0].Sockets) != 2 {
			t.Errorf("got %q", got)
		}
		more := []keeper.Forward{at("tcp", "::1", 82), at("tcp", "127.0.0.1", 82)}
		files, err := r.Forward(t.Context(), 0, more)
		if err != nil || len(files) != 2 || files[0] != nil || files[1] == nil {
			t.Errorf("got %v, %v", files, err)
		}
		if err := r.Unforward(t.Context(), 0, more); err != nil {
			t.Error(err)
		}
		forward.CloseAll(files)
		mustLeave(t, r)
		if _, err := Join(t.Context(), o, natNet, "web", withForwards(1, at("tcp", "::1", 8080))); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("::1 alone: %v", err)
		}
	})
}

// The socket outlives the keeper, and ends with the process that has it.
func TestForwardOutlivesTheKeeper(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, natNet, "web", withForwards(1, at("tcp", "127.0.0.1", 8080)))
		l, err := net.FileListener(r.Ports()[0].Sockets[0])
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		replaceKeeper(t, o)
		c, err := net.Dial("tcp", "127.0.0.1:8080")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if got := forwardsOf(t, o); got != "127.0.0.1:8080:80" {
			t.Errorf("the next keeper knows of %q", got)
		}
		r.Ports()[0].Sockets[0].Close()
		l.Close()
		if f, err := forward.Listen(at("tcp", "*", 8080)); err != nil {
			t.Errorf("the keeper has the port, too: %v", err)
		} else {
			f.Close()
		}
		mustLeave(t, r)
	})
}
