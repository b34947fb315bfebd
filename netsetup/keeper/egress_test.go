package keeper_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// lanNames is the one of the LAN, 192.0.2.1. asked counts the questions that came to it.
type lanNames struct {
	asked atomic.Int32
	conn  net.PacketConn
	down  func()
}

// internet is what its names have: addresses, or "=" and another name.
var internet = map[string][]string{
	"deb.example.": {"203.0.113.1"}, "www.cdn.example.": {"=edge.example."}, "edge.example.": {"203.0.113.2"},
	"evil.example.": {"203.0.113.3"}, "site.wild.example.": {"203.0.113.4"}, "wild.example.": {"203.0.113.4"},
	"rebind.example.": {"10.200.0.1"}, "loop.example.": {"127.0.0.1"}, "meta.example.": {"169.254.169.254"}, "mixed.example.": {"203.0.113.1", "192.168.0.1"},
	"inside.example.": {"10.201.0.1"}, "outside.example.": {"2001:db8:ffff::1"}, "vpn.example.": {"2001:db8:9::2"}, "six.example.": {"2001:db8:6::1"}, "mapped.example.": {"::ffff:10.200.0.1"},
}

// serveNames starts the LAN's name server, and has the host use it.
func serveNames(t *testing.T) *lanNames {
	t.Helper()
	s := &lanNames{}
	lab.Sh(t, "for i in 2 3 4; do ip -n inet addr add 203.0.113.$i/32 dev lo; done; ip -n inet addr add 10.200.0.1/32 dev lo; ip -n inet addr add 10.201.0.1/32 dev lo")
	lab.InNamespace(t, "inet", func() (err error) {
		s.conn, err = net.ListenPacket("udp", "192.0.2.1:53")
		return err
	})
	go s.serve()
	conf := lab.Dir(t) + "/resolv.conf"
	if err := os.WriteFile(conf, []byte("nameserver 192.0.2.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lab.Sh(t, "mount --bind "+conf+" /etc/resolv.conf")
	s.down = func() {
		s.conn.Close()
		lab.Sh(t, "umount /etc/resolv.conf")
	}
	return s
}

func (s *lanNames) serve() {
	for b := make([]byte, 4096); ; {
		n, from, err := s.conn.ReadFrom(b)
		if err != nil {
			return
		}
		s.asked.Add(1)
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil {
			continue
		}
		m.Response, m.Additionals = true, nil
		q := m.Questions[0]
		s.answer(&m, strings.ToLower(q.Name.String()), q.Type)
		// A name that nobody asked about: it opens nothing.
		stray := dnsmessage.MustNewName("deb.example.")
		if q.Type == dnsmessage.TypeA && len(m.Answers) > 0 && !strings.EqualFold(q.Name.String(), stray.String()) {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: stray, Class: dnsmessage.ClassINET, TTL: 1}, Body: &dnsmessage.AResource{A: netip.MustParseAddr("203.0.113.3").As4()}})
		}
		if raw, err := m.Pack(); err == nil {
			s.conn.WriteTo(raw, from)
		}
	}
}

func (s *lanNames) answer(m *dnsmessage.Message, name string, kind dnsmessage.Type) {
	found, known := internet[name]
	if n := 0; !known {
		if _, err := fmt.Sscanf(name, "n%d.many.example.", &n); err == nil {
			found, known = []string{fmt.Sprintf("198.18.%d.%d", n/250, n%250+1)}, true
			found[0] = strings.Replace(found[0], "198.18.", "203.1.", 1)
		}
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
		return
	}
	for _, f := range found {
		h := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 1}
		to, isAlias := strings.CutPrefix(f, "=")
		a, _ := netip.ParseAddr(f)
		switch {
		case isAlias:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}})
			s.answer(m, to, kind)
		case a.Is4() && kind == dnsmessage.TypeA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case a.Is6() && kind == dnsmessage.TypeAAAA:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
}

// asks asks a name server from a guest. It returns the addresses, or how the answer refuses.
func asks(t *testing.T, from, network, server, name string, kind dnsmessage.Type) (result string) {
	t.Helper()
	var opt dnsmessage.ResourceHeader
	opt.SetEDNS0(1232, dnsmessage.RCodeSuccess, false)
	question := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions:   []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{}}},
	}
	raw, err := question.Pack()
	if err != nil {
		t.Fatal(err)
	}
	result = "timeout"
	lab.InNamespace(t, from, func() error {
		c, err := net.DialTimeout(network, net.JoinHostPort(server, "53"), 2*time.Second)
		if err != nil {
			return nil
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if network == "tcp" {
			raw = append([]byte{byte(len(raw) >> 8), byte(len(raw))}, raw...)
		}
		c.Write(raw)
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			return nil
		}
		if b = b[:n]; network == "tcp" && n > 2 {
			b = b[2:]
		}
		result = toldBy(b)
		return nil
	})
	return result
}

func toldBy(raw []byte) string {
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		return err.Error()
	}
	words := []string{}
	if m.RCode != dnsmessage.RCodeSuccess {
		words = append(words, strings.TrimPrefix(m.RCode.String(), "RCode"))
	}
	for _, a := range m.Answers {
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(body.AAAA).String())
		}
	}
	for _, a := range m.Additionals {
		if o, ok := a.Body.(*dnsmessage.OPTResource); ok && len(o.Options) > 0 && o.Options[0].Code == 15 {
			words = append(words, fmt.Sprintf("filtered %v", o.Options[0].Data))
		}
	}
	return strings.Join(words, " ")
}

func listOf(t *testing.T, texts ...string) reach.Policy {
	t.Helper()
	p := reach.Policy{Listed: true}
	for _, text := range texts {
		e, err := reach.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Entries = append(p.Entries, e)
	}
	return p
}

const filteredName = "NameError filtered [0 17]"

// What a guest with a list reaches: names by qnet's DNS, prefixes with their ports, and nothing else,
// whichever name server it asks.
func TestEgress(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		names := serveNames(t)
		defer names.down()
		defer serveTCP(t, "inet", "203.0.113.1:80", "203.0.113.2:80", "203.0.113.2:443", "203.0.113.3:80", "203.0.113.4:443", "203.0.113.4:80", "10.200.0.1:80", "192.0.2.1:80", "192.0.2.1:853")()
		r := reaching(t, o, natNet, "web", 9, listOf(t, "deb.example", "www.cdn.example", "*.wild.example:443", "rebind.example", "loop.example", "meta.example", "mixed.example", "six.example", "inside.example",
			"mapped.example", "192.0.2.1:853/tcp", "10.201.0.0/16", "!203.0.113.2/32"))
		other := reaching(t, o, natNet, "other", 10, listOf(t, "deb.example", "www.cdn.example"))
		free := reaching(t, o, natNet, "free", 11, reach.Policy{})

		dialled(t, "web", map[string]string{"203.0.113.1:80": refused, "203.0.113.3:80": refused, "192.0.2.1:80": refused, "192.0.2.1:853": "", "10.200.0.1:80": refused})
		for _, c := range []struct{ name, want string }{
			{"deb.example.", "203.0.113.1"},
			{"DEB.example.", "203.0.113.1"},
			{"www.cdn.example.", "203.0.113.2 203.0.113.3"},
			{"edge.example.", filteredName},
			{"evil.example.", filteredName},
			{"secret.evil.example.", filteredName},
			{"wild.example.", filteredName},
			{"site.wild.example.", "203.0.113.4 203.0.113.3"},
			{"rebind.example.", filteredName},
			{"mixed.example.", filteredName},
			{"loop.example.", ""},
			{"meta.example.", ""},
			{"inside.example.", "10.201.0.1 203.0.113.3"},
			{"other.qnet.", "10.77.0.10"},
		} {
			for _, server := range []string{"10.77.0.1", "8.8.8.8", "192.0.2.1"} {
				if got := asks(t, "web", "udp", server, c.name, dnsmessage.TypeA); got != c.want {
					t.Errorf("%s of %s: %q, want %q", c.name, server, got, c.want)
				}
			}
			if got := asks(t, "web", "tcp", "8.8.8.8", c.name, dnsmessage.TypeA); got != c.want && !strings.Contains(got, "ServerFailure") { // the LAN's server has no TCP
				t.Errorf("%s by TCP: %q, want %q", c.name, got, c.want)
			}
		}
		before := names.asked.Load()
		asks(t, "web", "udp", "10.77.0.1", "data.evil.example.", dnsmessage.TypeTXT)
		if got := asks(t, "web", "udp", "10.77.0.1", "deb.example.", dnsmessage.Type(65)); got != "" || names.asked.Load() != before {
			t.Errorf("HTTPS: %q; %d questions left the host", got, names.asked.Load()-before)
		}
		if got := asks(t, "web", "udp", "10.77.0.1", "mapped.example.", dnsmessage.TypeAAAA); got != filteredName {
			t.Errorf("an address of the LAN within IPv6: %q", got)
		}
		dialled(t, "web", map[string]string{
			"203.0.113.1:80": "", "203.0.113.2:80": refused, "203.0.113.3:80": refused, "203.0.113.4:443": "", "203.0.113.4:80": refused, "10.200.0.1:80": refused,
			"10.77.0.1:53": "", "192.0.2.1:80": refused, "10.201.0.1:1": "connection refused",
		})
		if !lab.Pings("web", "203.0.113.1") || lab.Pings("web", "203.0.113.3") || !lab.Pings("web", "-s 4000 203.0.113.1") || lab.Pings("web", "-s 4000 203.0.113.3") || lab.Pings("web", "203.0.113.4") {
			t.Error("pings")
		}
		// The cache has answered the first guest: the second gets its own elements.
		dialled(t, "other", map[string]string{"203.0.113.1:80": refused})
		if got := asks(t, "other", "udp", "10.77.0.1", "deb.example.", dnsmessage.TypeA); got != "203.0.113.1" {
			t.Errorf("got %q", got)
		}
		asks(t, "other", "udp", "10.77.0.1", "www.cdn.example.", dnsmessage.TypeA)
		dialled(t, "other", map[string]string{"203.0.113.1:80": "", "203.0.113.2:80": "", "203.0.113.4:443": refused})
		dialled(t, "free", map[string]string{"203.0.113.3:80": "", "192.0.2.1:80": ""})
		if got := asks(t, "free", "udp", "10.77.0.1", "evil.example.", dnsmessage.TypeA); got != "203.0.113.3 203.0.113.3" {
			t.Errorf("a guest without a list: %q", got)
		}
		for _, want := range []string{egress.ToOthers, egress.ToDenied, "name evil.example", "name rebind.example, which has the address 10.200.0.1"} {
			if ports := portsOf(t, o, "web"); len(ports) != 1 || !slices.ContainsFunc(ports[0].Refused, func(c nft.Count) bool { return c.Of == want && c.Packets > 0 }) {
				t.Errorf("%q is not counted: %+v", want, ports)
			}
		}
		unplug(t, free, "free")
		unplug(t, other, "other")
		unplug(t, r, "web")
	})
}

// A connection outlives the time of its address, no name opens anything while the keeper is dead, and
// the next keeper opens by the next answer. Nothing gets past the rules by another address or MAC.
func TestEgressWithoutKeeper(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		names := serveNames(t)
		defer names.down()
		defer serveTCP(t, "inet", "203.0.113.1:80", "203.0.113.2:80", "203.0.113.3:80")()
		r := reaching(t, o, natNet, "web", 9, listOf(t, "deb.example", "www.cdn.example"))
		asks(t, "web", "udp", "10.77.0.1", "deb.example.", dnsmessage.TypeA)
		var held net.Conn
		lab.InNamespace(t, "web", func() (err error) {
			held, err = net.DialTimeout("tcp", "203.0.113.1:80", 2*time.Second)
			return err
		})
		defer held.Close()
		table := egress.TableName(r.Ports()[0].Tap)
		if list := lab.Sh(t, "nft list set inet "+table+" names4"); !strings.Contains(list, "203.0.113.1 timeout 6m") {
			t.Errorf("got %s", list)
		}
		pid := r.Info().KeeperPID
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
			if got := dials(t, "web", "203.0.113.2:80"); got != refused {
				t.Fatalf("without a keeper: %q", got)
			}
		}
		lab.Eventually(t, 10*time.Second, "the next keeper", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			return err == nil && len(infos) == 1 && infos[0].KeeperPID != pid && len(infos[0].VMs) == 1
		})
		dialled(t, "web", map[string]string{"203.0.113.1:80": "", "203.0.113.2:80": refused, "203.0.113.3:80": refused})
		lab.Eventually(t, 5*time.Second, "names again", func() bool {
			return strings.HasPrefix(asks(t, "web", "udp", "10.77.0.1", "www.cdn.example.", dnsmessage.TypeA), "203.0.113.2")
		})
		if got := asks(t, "web", "udp", "10.77.0.1", "evil.example.", dnsmessage.TypeA); got != filteredName {
			t.Errorf("got %q", got)
		}
		dialled(t, "web", map[string]string{"203.0.113.2:80": "", "203.0.113.3:80": refused})

		lab.Sh(t, "nft delete element inet "+table+" names4 '{ 203.0.113.1 }' 2>/dev/null || true") // where the kernel has no owners
		if _, err := held.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		held.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := held.Read(make([]byte, 1)); err != nil {
			t.Errorf("the connection from before: %v", err)
		}
		lab.Sh(t, "ip -n web addr add 10.77.0.66/24 dev eth0")
		if lab.Pings("web", "-I 10.77.0.66 203.0.113.3") {
			t.Error("a ping by another address passed")
		}
		lab.Sh(t, "ip -n web link set eth0 down; ip -n web link set eth0 address 52:54:00:01:02:aa; ip -n web link set eth0 up; ip -n web route replace default via 10.77.0.1")
		if got := dials(t, "web", "203.0.113.3:80"); got == "" {
			t.Error("by another MAC: passed")
		}
		unplug(t, r, "web")
	})
}

// The way is open when the answer comes, however slow the kernel is; where it takes too long there is
// no answer. A name whose address changes with each answer is reached each time.
func TestEgressOpensBeforeTheAnswer(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		names := serveNames(t)
		defer names.down()
		lab.Sh(t, "ip -n inet route add local 203.1.0.0/16 dev lo; ip netns exec inet nft -f - <<'EOF'\ntable ip t { chain c { type nat hook prerouting priority -100; ip daddr 203.1.0.0/16 tcp dport 80 redirect to :80; }; }\nEOF")
		defer serveTCP(t, "inet", ":80")()
		go func() { // each address takes the keeper 20 ms
			for hook := filepath.Join(filepath.Dir(o.RunDir), "hook"); ; time.Sleep(20 * time.Millisecond) {
				if _, err := os.Stat(filepath.Dir(hook)); err != nil {
					return
				}
				os.Remove(hook + ".met")
			}
		}()
		hook := filepath.Join(filepath.Dir(o.RunDir), "hook")
		if err := os.WriteFile(hook, []byte("keeper lets a guest reach an address"), 0o644); err != nil {
			t.Fatal(err)
		}
		r := reaching(t, o, natNet, "web", 9, listOf(t, "*.many.example:80"))
		for i := range 60 {
			name := fmt.Sprintf("n%d.many.example.", i)
			address := "ServerFailure"
			for range 10 { // a busy host takes longer than the clerk waits: then there is no answer
				if address, _, _ = strings.Cut(asks(t, "web", "udp", "10.77.0.1", name, dnsmessage.TypeA), " "); address != "ServerFailure" {
					break
				}
			}
			if got := dials(t, "web", address+":80"); got != "" {
				t.Fatalf("%s at %q: %s", name, address, got)
			}
		}
		unplug(t, r, "web")
	})
}
