package probe

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/server"
	"github.com/qnet-vm/qnet/profiles"
)

func TestMain(m *testing.M) {
	lab.Instrument(os.Args)
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		os.Exit(server.Main(context.Background(), os.Args[2:], os.Stdin, os.Stderr))
	}
	os.Exit(m.Run())
}

// outside is the lab's stand-in for the Internet.
var outside = netip.MustParseAddrPort("203.0.113.1:7")

// testHost is the host of a test (lab.Uplink). Its resolver is outside.
type testHost struct {
	*testing.T
	o        keeper.Options
	untraced bool
	found    bool // the probe finds a target itself
}

// inLab runs a test on its own host, with a name server and an echo server outside.
func inLab(t *testing.T, f func(l *testHost)) {
	t.Helper()
	lab.Require(t, lab.Tun, lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		dir := lab.Dir(t)
		resolv := filepath.Join(dir, "resolv.conf")
		if err := os.WriteFile(resolv, []byte("nameserver 203.0.113.1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "mount --bind "+resolv+" /etc/resolv.conf")
		l := &testHost{T: t, o: keeper.Options{
			RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Exe: []string{"/proc/self/exe", "keeper"},
		}}
		l.nameServer()
		l.echoServer()
		f(l)
	})
}

// nameServer replies 198.51.100.7 to every question, until the test ends.
func (l *testHost) nameServer() {
	l.Helper()
	var c net.PacketConn
	lab.InNamespace(l, "inet", func() (err error) {
		c, err = net.ListenPacket("udp4", "203.0.113.1:53")
		return err
	})
	l.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response = true
			m.Additionals = nil
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte{198, 51, 100, 7}},
			}}
			if answer, err := m.Pack(); err == nil {
				c.WriteTo(answer, from)
			}
		}
	}()
}

func (l *testHost) echoServer() {
	l.Helper()
	lab.InNamespace(l, "inet", func() error {
		lab.Serve(l, "tcp4", outside.String(), func(net.Conn) {})
		return nil
	})
}

// probe runs a probe of a network of the mode.
func (l *testHost) probe(n keeper.Network) Report {
	l.Helper()
	if n.Name == "" {
		n.Name = "dev"
	}
	options := Options{Target: outside, untraced: l.untraced}
	if l.found {
		options.Target = netip.AddrPort{}
	}
	r, err := Run(context.Background(), l.o, n, options)
	if err != nil {
		l.Fatal(err)
	}
	for _, s := range r.Steps {
		l.Logf("%-22s %-4s %8s  %s  %s", s.Name, s.Outcome, s.Took.Round(10000), s.Detail, s.Cause)
	}
	l.Logf("all in %s", r.Took)
	return r
}

// names lists the steps of an outcome.
func names(r Report, o Outcome) string {
	var list []string
	for _, s := range r.Steps {
		if s.Outcome == o {
			list = append(list, s.Name)
		}
	}
	return strings.Join(list, ", ")
}

var modes = []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT}
