package relay

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/profiles/ports"
)

// udpGuest answers each packet with its sender's address, a space and the packet.
func udpGuest(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, mostPacket)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(append([]byte(from.String()+" "), buf[:n]...), from)
		}
	}()
	return c
}

// ask sends a packet on a connected socket, which hears only the address that was asked, and
// returns the sender that the guest saw, and the packet.
func ask(t *testing.T, c net.Conn, packet string) (sender, answer string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(soon))
	if _, err := c.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, mostPacket)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("%v to %v: %v", c.LocalAddr(), c.RemoteAddr(), err)
	}
	from, rest, _ := bytes.Cut(buf[:n], []byte(" "))
	return string(from), string(rest)
}

func connect(t *testing.T, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// The answer leaves from the address that the client asked, whatever the route prefers.
func TestAnswersFromTheAddressAsked(t *testing.T) {
	var r Relay
	to := udpGuest(t).LocalAddr().String()
	for _, c := range []struct {
		listen string
		asked  []string
	}{
		{"0.0.0.0:0", []string{"127.0.0.1", "127.0.0.5", "127.9.9.9"}},
		{"[::]:0", []string{"127.0.0.1", "127.0.0.5", "::1"}}, // by one socket for both
		{"127.0.0.7:0", []string{"127.0.0.7"}},
	} {
		forward, at := forwarded(t, &r, "udp", c.listen, to)
		seen := map[string]bool{}
		for _, asked := range c.asked {
			client := connect(t, netip.AddrPortFrom(netip.MustParseAddr(asked), at.Port()))
			first, answer := ask(t, client, "one")
			again, _ := ask(t, client, "two")
			if first != again || answer != "one" || seen[first] {
				t.Errorf("%s, %s: got flows %s, %s, answer %q", c.listen, asked, first, again, answer)
			}
			seen[first] = true
		}
		eventually(t, func() bool {
			got := r.Count(forward)
			return got.Connections == len(c.asked) && got.In == uint64(6*len(c.asked)) && got.Out > got.In
		}, func() any { return r.Count(forward) })
	}
}

func TestLargePackets(t *testing.T) {
	var r Relay
	_, at := forwarded(t, &r, "udp", "127.0.0.1:0", udpGuest(t).LocalAddr().String())
	want := string(bytes.Repeat([]byte("x"), 60000))
	if _, got := ask(t, connect(t, at), want); got != want {
		t.Errorf("got %d bytes", len(got))
	}
}

// A flow that an ICMP error ended begins anew with the next packet: to the guest it is another
// client.
func TestICMPErrorsEndFlows(t *testing.T) {
	var r Relay
	g := udpGuest(t)
	address := g.LocalAddr().(*net.UDPAddr)
	forward, at := forwarded(t, &r, "udp", "127.0.0.1:0", address.String())
	client := connect(t, at)
	before, _ := ask(t, client, "x")
	g.Close()
	client.Write([]byte("refused"))
	eventually(t, func() bool { return r.Count(forward).Connections == 0 }, func() any { return r.Count(forward) })
	again, err := net.ListenUDP("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	client.Write([]byte("y"))
	again.SetReadDeadline(time.Now().Add(soon))
	if _, from, err := again.ReadFromUDPAddrPort(make([]byte, 1)); err != nil || from.String() == before {
		t.Errorf("got a packet from %s, %v; before from %s", from, err, before)
	}
}

func TestIdleFlowsEnd(t *testing.T) {
	flowIdle = 300 * time.Millisecond
	defer func() { flowIdle = time.Minute }()
	var r Relay
	forward, at := forwarded(t, &r, "udp", "127.0.0.1:0", udpGuest(t).LocalAddr().String())
	client := connect(t, at)
	first, _ := ask(t, client, "x")
	for range 10 { // it is not idle, for longer than that
		time.Sleep(flowIdle / 5)
		if sender, _ := ask(t, client, "x"); sender != first {
			t.Fatal("a flow that is used ended")
		}
	}
	eventually(t, func() bool { return r.Count(forward).Connections == 0 }, func() any { return r.Count(forward) })
	r.Close()
}

// One client more than there may be flows gets no answer, and the others go on.
func TestFlowsAreBounded(t *testing.T) {
	var r Relay
	forward, at := forwarded(t, &r, "udp", "127.0.0.1:0", udpGuest(t).LocalAddr().String())
	first := connect(t, at)
	ask(t, first, "x")
	for range mostFlows - 1 {
		ask(t, connect(t, at), "x")
	}
	more := connect(t, at)
	more.Write([]byte("x"))
	more.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := more.Read(make([]byte, 100)); err == nil {
		t.Errorf("got %d bytes", n)
	}
	ask(t, first, "y")
	if got := r.Count(forward); got.Connections != mostFlows || got.Total != mostFlows {
		t.Errorf("got %+v", got)
	}
	if !r.Remove(forward) || r.Count(forward) != (Count{}) {
		t.Errorf("got %+v", r.Count(forward))
	}
}

// Packets for a guest without an address are lost.
func TestNoAddressForUDP(t *testing.T) {
	var r Relay
	f, at := socketOf(t, "udp", "127.0.0.1:0")
	to := netip.AddrPort{}
	asked := make(chan bool, 8)
	forward := ports.Forward{Proto: "udp", Port: at.Port(), Guest: 1}
	if err := r.Add(forward, f, func() (netip.AddrPort, time.Duration) { asked <- true; return to, 0 }); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	connect(t, at).Write([]byte("x"))
	<-asked
	if got := r.Count(forward); got.Connections != 0 {
		t.Errorf("got %+v", got)
	}
}
