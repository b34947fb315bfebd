package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// pingInterval is the time between two pings, and between two lines of a Talk.
const pingInterval = 10 * time.Millisecond

// answerTimeout is how long stop waits for the answers to the last pings.
const answerTimeout = time.Second

// MoveLoss is how many pings may be lost while a NIC becomes a bridge's port and is let go
// again. The kernel drops the frames that arrive from when the NIC is the bridge's until
// the port is enabled, and from when the port is disabled until the NIC is free (br_add_if
// and del_nbp in net/bridge/br_if.c). That takes it microseconds, or longer where another
// process gets the processor meanwhile.
const MoveLoss = 1

// Continuity counts how many of the pings, or lines of TCP, that a test sent every
// 10 ms came back.
type Continuity struct {
	Sent, Lost int
	Gap        time.Duration // the longest between two answers; 10 ms is the least
}

// And is the sum of both, with the longer gap.
func (c Continuity) And(d Continuity) Continuity {
	return Continuity{c.Sent + d.Sent, c.Lost + d.Lost, max(c.Gap, d.Gap)}
}

// String is a cell of a table of results.
func (c Continuity) String() string {
	return fmt.Sprintf("%d of %d lost, longest gap %.1f ms", c.Lost, c.Sent, float64(c.Gap.Microseconds())/1000)
}

// PingFrom pings an address, IPv4 or IPv6, from a namespace every 10 ms until
// stop. stop waits up to a second for the last answers.
func PingFrom(t testing.TB, ns, to string) (stop func() Continuity) {
	t.Helper()
	dst := &net.IPAddr{IP: net.ParseIP(to)}
	p := &pinger{dst: dst, echo: ipv4.ICMPTypeEcho, reply: ipv4.ICMPTypeEchoReply, proto: 1, quit: make(chan struct{}), answers: map[int]time.Time{}}
	network, local := "ip4:icmp", "0.0.0.0"
	if dst.IP.To4() == nil {
		network, local = "ip6:ipv6-icmp", "::"
		p.echo, p.reply, p.proto = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 58
	}
	InNamespace(t, ns, func() (err error) {
		p.conn, err = icmp.ListenPacket(network, local)
		return err
	})
	go p.receive()
	p.sending.Go(p.send)
	return p.stop
}

type pinger struct {
	conn        *icmp.PacketConn
	dst         net.Addr
	echo, reply icmp.Type
	proto       int
	quit        chan struct{}
	sending     sync.WaitGroup
	sent        int

	mu      sync.Mutex // guards answers
	answers map[int]time.Time
}

// identifier tells the pings of PingFrom from those of ping(8).
const identifier = 0x716e

func (p *pinger) send() {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-p.quit:
			return
		case <-tick.C:
		}
		m := icmp.Message{Type: p.echo, Body: &icmp.Echo{ID: identifier, Seq: p.sent & 0xffff, Data: make([]byte, 32)}}
		if b, err := m.Marshal(nil); err == nil {
			p.conn.WriteTo(b, p.dst) // a ping that is not sent counts as lost
		}
		p.sent++
	}
}

func (p *pinger) receive() {
	b := make([]byte, 1500)
	for {
		n, _, err := p.conn.ReadFrom(b)
		if err != nil {
			return
		}
		m, err := icmp.ParseMessage(p.proto, b[:n])
		if err != nil || m.Type != p.reply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == identifier {
			p.mu.Lock()
			if _, twice := p.answers[echo.Seq]; !twice {
				p.answers[echo.Seq] = time.Now()
			}
			p.mu.Unlock()
		}
	}
}

func (p *pinger) stop() Continuity {
	close(p.quit)
	p.sending.Wait()
	for end := time.Now().Add(answerTimeout); time.Now().Before(end); time.Sleep(pingInterval) {
		p.mu.Lock()
		all := len(p.answers) == p.sent
		p.mu.Unlock()
		if all {
			break
		}
	}
	p.conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	c := Continuity{Sent: p.sent}
	var last time.Time
	for seq := range p.sent {
		at, ok := p.answers[seq]
		if !ok {
			c.Lost++
			continue
		}
		if !last.IsZero() {
			c.Gap = max(c.Gap, at.Sub(last))
		}
		last = at
	}
	return c
}

// Talk opens a TCP connection from a namespace to an echo server on the host, at
// address, and sends a line every 10 ms. A line that does not come back within 5 s,
// or is sent after the connection broke, counts as lost.
func Talk(t testing.TB, ns, address string) (stop func() Continuity) {
	t.Helper()
	server, err := net.Listen("tcp", net.JoinHostPort(address, "7"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	var c net.Conn
	InNamespace(t, ns, func() (err error) {
		c, err = net.DialTimeout("tcp", server.Addr().String(), 3*time.Second)
		return err
	})
	quit, result := make(chan struct{}), make(chan Continuity)
	go func() { result <- talk(c, quit) }()
	return func() Continuity {
		close(quit)
		r := <-result
		c.Close()
		server.Close()
		return r
	}
}

func talk(c net.Conn, quit <-chan struct{}) (r Continuity) {
	lines := bufio.NewReader(c)
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-quit:
			return r
		case <-tick.C:
		}
		r.Sent++
		c.SetDeadline(time.Now().Add(5 * time.Second))
		words := fmt.Sprintln("line", r.Sent)
		io.WriteString(c, words)
		if answer, err := lines.ReadString('\n'); err != nil || answer != words {
			r.Lost++
			continue
		}
		r.Gap = max(r.Gap, time.Since(last))
		last = time.Now()
	}
}
