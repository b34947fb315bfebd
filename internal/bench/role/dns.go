package role

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/netsetup/dns"
)

func serveDNS() error {
	server, err := dns.Listen(dns.Config{
		Link: Bridge, Address: Address, Prefix: Prefix,
		Lookup: func(name string) []netip.Addr {
			if name == "web" {
				return []netip.Addr{netip.MustParseAddr("10.98.0.9")}
			}
			return nil
		},
		Reverse: func(netip.Addr) string { return "" },
	})
	if err != nil {
		return err
	}
	server.Serve()
	return nil
}

// serveUpstream answers all questions, as the Internet's name servers do.
func serveUpstream(address string) error {
	c, err := net.ListenPacket("udp", address+":53")
	if err != nil {
		return err
	}
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 300},
			Body:   &dnsmessage.AResource{A: [4]byte{203, 0, 113, 7}},
		}}
		if answer, err := m.Pack(); err == nil {
			c.WriteTo(answer, from) // a lost answer is asked for again
		}
	}
}

const (
	askTime = 500 * time.Millisecond // for each of the two figures
	pace    = time.Millisecond       // between two queries of the second
)

// ask asks "SERVER,NAME" and prints two figures: queries per second with window queries
// at a time, and the 99th percentile of the answers' times in milliseconds with one
// query per pace. The name "*" is a new one each time.
func ask(what string) error {
	server, name, _ := strings.Cut(what, ",")
	var mu sync.Mutex
	total := 0
	var failed error
	var all sync.WaitGroup
	for id := range window {
		all.Go(func() {
			times, err := askFor(server, name, id, 0)
			mu.Lock()
			defer mu.Unlock()
			if total += len(times); err != nil {
				failed = err
			}
		})
	}
	all.Wait()
	if failed != nil {
		return failed
	}
	times, err := askFor(server, name, window, pace)
	if err != nil {
		return err
	}
	slices.Sort(times)
	fmt.Fprintf(os.Stdout, "%f %f\n", float64(total)/askTime.Seconds(), float64(times[len(times)*99/100].Microseconds())/1000)
	return nil
}

// askFor asks from one socket, one question after the other.
func askFor(server, name string, id int, pause time.Duration) ([]time.Duration, error) {
	c, err := net.Dial("udp", server+":53")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var times []time.Duration
	b := make([]byte, 1500)
	stamp := time.Now().UnixNano()
	for begin := time.Now(); time.Since(begin) < askTime; {
		asked := name
		if name == "*" {
			asked = fmt.Sprintf("n%d-%d-%d.example.com.", stamp, id, len(times))
		}
		q, err := question(asked, uint16(len(times)))
		if err != nil {
			return nil, err
		}
		sent := time.Now()
		if _, err := c.Write(q); err != nil {
			return nil, err
		}
		c.SetReadDeadline(sent.Add(3 * time.Second))
		n, err := c.Read(b)
		if err != nil {
			return nil, fmt.Errorf("ask %s for %s: %w", server, asked, err)
		}
		if n < 12 || b[3]&0xf != 0 || b[7] == 0 {
			return nil, fmt.Errorf("ask %s for %s: no answer in %x", server, asked, b[:n])
		}
		took := time.Since(sent)
		times = append(times, took)
		time.Sleep(pause - took)
	}
	return times, nil
}

func question(name string, id uint16) ([]byte, error) {
	n, err := dnsmessage.NewName(name)
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}
