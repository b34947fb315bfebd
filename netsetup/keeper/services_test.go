package keeper_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/profiles"
)

// question is a query for the IPv4 address of a name.
func question(t *testing.T, name string) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// resolves asks a name server from a namespace, over UDP or TCP, and reports whether an
// answer came within the time.
func resolves(t *testing.T, ns, network, from, server, name string, within time.Duration) bool {
	t.Helper()
	answered := false
	lab.InNamespace(t, ns, func() error {
		d := net.Dialer{Timeout: within}
		if from != "" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
		c, err := d.Dial(network, server+":53")
		if err != nil {
			return nil // refused: no answer
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(within))
		raw := question(t, name)
		if network == "tcp4" {
			raw = append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
		}
		if _, err := c.Write(raw); err != nil {
			return nil // likewise
		}
		n, err := c.Read(make([]byte, 4096))
		answered = n > 0 && err == nil
		return nil
	})
	return answered
}

// discover is a client's DISCOVER in a frame from a MAC. client is the MAC that it names.
func discover(t *testing.T, from, client net.HardwareAddr) []byte {
	t.Helper()
	m, err := dhcpv4.NewDiscovery(client, dhcpv4.WithBroadcast(true))
	if err != nil {
		t.Fatal(err)
	}
	return packet.Datagram{
		SrcMAC: from, DstMAC: packet.Broadcast, Src: netip.IPv4Unspecified(), Dst: netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		SrcPort: 68, DstPort: 67, Payload: m.ToBytes(),
	}.Frame()
}

// frames opens a packet socket on a namespace's link, which is closed with the test.
func frames(t *testing.T, ns, link string) *packet.Conn {
	t.Helper()
	var c *packet.Conn
	lab.InNamespace(t, ns, func() error {
		l, err := net.InterfaceByName(link)
		if err == nil {
			c, err = packet.Listen(l.Index, packet.IPv4, packet.UDPTo(68))
		}
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// offered reports whether an offer comes within the time.
func offered(t *testing.T, c *packet.Conn, within time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	n, _, err := c.Read(make([]byte, 2048))
	return n > 0 && err == nil
}

// Promise P15: a network's DHCP and DNS are for its guests. The LAN gets no answer: not by
// the host's address there, nor by the gateway's, nor with the source of a guest.
func TestLANIsNotServed(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		natGuest(t)
		lab.Sh(t, "ip -n inet route add 10.77.0.0/24 via 192.0.2.10; ip -n inet addr add 10.77.0.77/32 dev lo")
		for _, network := range []string{"udp4", "tcp4"} {
			for _, name := range []string{"host.qnet.", "web.qnet."} {
				if !resolves(t, "guest", network, "", "10.77.0.1", name, 5*time.Second) {
					t.Errorf("a guest gets no answer about %s over %s", name, network)
				}
			}
			for _, server := range []string{"192.0.2.10", "10.77.0.1"} {
				if resolves(t, "inet", network, "", server, "host.qnet.", time.Second) {
					t.Errorf("the LAN gets an answer of %s over %s", server, network)
				}
			}
		}
		for _, server := range []string{"192.0.2.10", "10.77.0.1"} {
			if resolves(t, "inet", "udp4", "10.77.0.77", server, "host.qnet.", time.Second) {
				t.Errorf("a guest's address on the LAN gets an answer of %s", server)
			}
		}
		client := net.HardwareAddr{0x52, 0x54, 0, 9, 9, 9}
		for ns, link := range map[string]string{"inet": "lan0", "guest": "eth0"} {
			c := frames(t, ns, link)
			if err := c.Write(discover(t, client, client)); err != nil {
				t.Fatal(err)
			}
			if within := map[string]time.Duration{"inet": time.Second, "guest": 5 * time.Second}[ns]; offered(t, c, within) != (ns == "guest") {
				t.Errorf("%s is offered an address: %t", ns, ns != "guest")
			}
		}
		lab.Sh(t, "ip link del vguest; ip netns del guest")
		mustLeave(t, r)
	})
}

// Promise P15: the lease of a VM's NIC is not for another guest.
func TestLeaseOfAnotherNIC(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		natGuest(t)
		c := frames(t, "guest", "eth0")
		own := net.HardwareAddr{0x52, 0x54, 0, 9, 9, 9}
		for _, about := range []struct {
			client net.HardwareAddr
			want   bool
		}{{r.Ports()[0].MAC, false}, {own, true}} {
			if err := c.Write(discover(t, own, about.client)); err != nil {
				t.Fatal(err)
			}
			if got := offered(t, c, map[bool]time.Duration{false: time.Second, true: 5 * time.Second}[about.want]); got != about.want {
				t.Errorf("an offer for %s: %t", about.client, got)
			}
		}
		lab.Sh(t, "ip link del vguest; ip netns del guest")
		mustLeave(t, r)
	})
}

// Promise P15: a guest that floods DHCP with made-up clients, and DNS with names that have no
// answer, leaves the host its name server, and another guest its lease and names.
func TestFloodLeavesOthersTheirNames(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		conf := lab.Dir(t) + "/resolv.conf"
		if err := os.WriteFile(conf, []byte("nameserver 203.0.113.1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "mount --bind "+conf+" /etc/resolv.conf")
		defer lab.Sh(t, "umount /etc/resolv.conf")
		asked := nameServer(t, "inet", "203.0.113.1:53")
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		natGuest(t)
		lab.Guest(t, "evil", "qn-dev", "10.77.0.10/24", "10.77.0.1")
		stop := flood(t)
		lab.Eventually(t, 10*time.Second, "the flood arrives at the host's name server", func() bool { return asked.Load() >= 64 })
		for i := range 5 {
			lab.Eventually(t, 10*time.Second, "an answer for the other guest", func() bool {
				return resolves(t, "guest", "udp4", "", "10.77.0.1", fmt.Sprintf("n%d.example.com.", i), time.Second)
			})
			if !resolves(t, "guest", "tcp4", "", "10.77.0.1", fmt.Sprintf("t%d.example.com.", i), 5*time.Second) {
				t.Error("no answer for the other guest over TCP")
			}
		}
		c := frames(t, "guest", "eth0")
		lab.Eventually(t, 10*time.Second, "the lease of a VM's NIC", func() bool {
			if err := c.Write(discover(t, r.Ports()[0].MAC, r.Ports()[0].MAC)); err != nil {
				t.Fatal(err)
			}
			return offered(t, c, time.Second)
		})
		lab.Sh(t, "timeout 5 busybox nslookup -type=a host.example.com 203.0.113.1 > /dev/null")
		stop()
		lab.Sh(t, "ip link del vguest; ip netns del guest; ip link del vevil; ip netns del evil")
		mustLeave(t, r)
	})
}

// nameServer runs a name server in a namespace that answers each name but those with
// "flood", and counts these.
func nameServer(t *testing.T, ns, at string) *atomic.Int64 {
	t.Helper()
	var floods atomic.Int64
	answer := func(raw []byte) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(raw); err != nil || len(m.Questions) != 1 {
			return nil
		}
		if strings.Contains(m.Questions[0].Name.String(), "flood") {
			floods.Add(1)
			return nil
		}
		m.Response = true
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 99}},
		}}
		m.Additionals = nil
		packed, err := m.Pack()
		if err != nil {
			return nil
		}
		return packed
	}
	lab.InNamespace(t, ns, func() error {
		udp, err := net.ListenPacket("udp4", at)
		if err != nil {
			return err
		}
		tcp, err := net.Listen("tcp4", at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { udp.Close(); tcp.Close() })
		go answerUDP(udp, answer)
		go answerTCP(tcp, answer)
		return nil
	})
	return &floods
}

func answerUDP(c net.PacketConn, answer func([]byte) []byte) {
	for b := make([]byte, 4096); ; {
		n, client, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if a := answer(b[:n]); a != nil {
			c.WriteTo(a, client)
		}
	}
}

func answerTCP(l net.Listener, answer func([]byte) []byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b := make([]byte, 4096)
		if n, err := c.Read(b); err == nil && n > 2 {
			a := answer(b[2:n])
			c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
		}
		c.Close()
	}
}

// flood sends, from the guest "evil", queries for names without an answer and DISCOVERs of
// made-up clients, until stop.
func flood(t *testing.T) (stop func()) {
	t.Helper()
	c := frames(t, "evil", "eth0")
	var dns net.Conn
	lab.InNamespace(t, "evil", func() (err error) {
		dns, err = net.Dial("udp4", "10.77.0.1:53")
		return err
	})
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := uint32(0); ; i++ {
			select {
			case <-quit:
				return
			default:
			}
			client := net.HardwareAddr{0x52, 0x54, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
			c.Write(discover(t, client, client))
			dns.Write(question(t, fmt.Sprintf("n%d.flood.example.", i)))
			if i%16 == 0 {
				time.Sleep(time.Millisecond) // some 10,000 each second
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		dns.Close()
	}
}
