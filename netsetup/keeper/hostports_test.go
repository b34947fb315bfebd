package keeper_test

import (
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/profiles"
)

// received gathers what reaches the listeners of a test, by the address they listen at.
type received struct {
	mu    sync.Mutex
	list  []string
	ports []io.Closer
}

func (r *received) close() {
	for _, p := range r.ports {
		p.Close()
	}
}

func (r *received) add(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.list, what) {
		r.list = append(r.list, what)
	}
}

// take returns what was received since the last call.
func (r *received) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	slices.Sort(list)
	return list
}

// listen opens a TCP and a UDP port at each address, in the calling thread's namespace. A
// listener of TCP accepts and ends connections; one of UDP sends back what it gets.
func (r *received) listen(t *testing.T, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		r.ports = append(r.ports, l)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				r.add("tcp " + a)
				c.Close()
			}
		}()
		u, err := net.ListenPacket("udp", a)
		if err != nil {
			t.Fatal(err)
		}
		r.ports = append(r.ports, u)
		go func() {
			b := make([]byte, 64)
			for {
				n, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				r.add("udp " + a)
				u.WriteTo(b[:n], from)
			}
		}()
	}
}

// answerTime is how long a test waits for an answer that shall not come.
const answerTime = 300 * time.Millisecond

// tries sends a datagram and opens a connection from a namespace to an address, and reports
// which of both is answered.
func tries(t *testing.T, ns, address string) (udp, tcp bool) {
	t.Helper()
	lab.InNamespace(t, ns, func() error {
		if c, err := net.DialTimeout("udp", address, answerTime); err == nil {
			defer c.Close()
			c.SetDeadline(time.Now().Add(answerTime))
			c.Write([]byte("hello"))
			_, err := c.Read(make([]byte, 16))
			udp = err == nil
		}
		c, err := net.DialTimeout("tcp", address, answerTime)
		if tcp = err == nil; tcp {
			c.SetDeadline(time.Now().Add(3 * time.Second))
			c.Read(make([]byte, 1)) // until the listener has noted it, and ends it
			c.Close()
		}
		return nil
	})
	return udp, tcp
}

// hostsPorts are the listeners of the host in TestHostBehindItsFirewall: at all addresses, at
// that of the LAN, of another network of qnet's, and of the network itself, and by IPv6.
var hostsPorts = []string{
	"0.0.0.0:34560", "[::]:34561", "192.0.2.10:34562", "10.78.0.1:34563", "10.77.0.1:34567", "[fe80::77%eth0]:34564",
}

// toHostsPorts is where a guest sends to reach them. Of IPv6, it gives itself the neighbour
// that the host does not answer for.
var toHostsPorts = []string{
	"10.77.0.1:34560", "192.0.2.10:34560", "10.77.0.1:34561", "192.0.2.10:34562", "10.78.0.1:34563", "10.77.0.1:34567",
	"[fe80::77%eth0]:34561", "[fe80::77%eth0]:34564", "[fe80::78%eth0]:34561",
}

// knocks tries all ports of the host from the guest, and returns what reached a listener.
func knocks(t *testing.T, got *received) []string {
	t.Helper()
	got.take()
	mac := strings.TrimSpace(lab.Sh(t, "cat /sys/class/net/qn-dev/address"))
	lab.Sh(t, "for a in fe80::77 fe80::78; do ip -n guest neigh replace $a lladdr "+mac+" dev eth0; done")
	for _, to := range toHostsPorts {
		tries(t, "guest", to)
	}
	return got.take()
}

// needed lists what a network needs of the host, and does not work.
func needed(t *testing.T) []string {
	t.Helper()
	var missing []string
	check := func(what string, ok bool) {
		if !ok {
			missing = append(missing, what)
		}
	}
	works := func(command string) bool {
		_, err := lab.Try("timeout 3 ip netns exec guest " + command)
		return err == nil
	}
	check("lease", works("busybox udhcpc -i eth0 -n -q -f -t 3 -T 1 -s /bin/true"))
	check("name over UDP", works("busybox nslookup -type=a web.qnet 10.77.0.1"))
	_, dns := tries(t, "guest", "10.77.0.1:53")
	check("name server over TCP", dns)
	check("ping of the host", lab.Pings("guest", "10.77.0.1"))
	check("ping by the host", lab.Pings("", "10.77.0.9"))
	c, err := net.DialTimeout("tcp", "10.77.0.9:34580", 3*time.Second)
	check("connection of the host", err == nil)
	if err == nil {
		c.Close()
	}
	return missing
}

// doAsNoted runs the commands of the notes: where told, there are some.
func doAsNoted(t *testing.T, r *Registration, told bool) {
	t.Helper()
	commands := regexp.MustCompile("`(nft [^`]*)`").FindAllStringSubmatch(strings.Join(r.Info().Notes, "\n"), -1)
	if told != (len(commands) > 0) {
		t.Errorf("notes %q", r.Info().Notes)
	}
	for _, c := range commands {
		lab.Sh(t, c[1])
	}
}

// firewall is one of the host's in TestHostBehindItsFirewall.
type firewall struct {
	needs       []lab.Need
	start       func(t *testing.T)
	told        bool   // qnet does not edit it, and notes commands
	open, close string // commands that open port 34567 to guests, and close it again
}

// Promise P5: beside a firewall that drops what comes to the host, a guest reaches DHCP, DNS and
// ping of the host, answers what the host sends it, and reaches no other port at any address
// of the host. Where nothing drops, guest and host talk. A port that the firewall's owner opens
// is open.
func TestHostBehindItsFirewall(t *testing.T) {
	ufw := programs.UFW()
	const accept = " INPUT -i qn-dev -p tcp --dport 34567 -j ACCEPT"
	for name, c := range map[string]firewall{
		"no firewall": {start: func(*testing.T) {}},
		"iptables-nft": {
			needs: []lab.Need{lab.Program("iptables-nft")},
			start: func(t *testing.T) { lab.Sh(t, "iptables-nft -P INPUT DROP; ip6tables-nft -P INPUT DROP") },
			open:  "iptables-nft -A" + accept, close: "iptables-nft -D" + accept,
		},
		"iptables-legacy": {
			needs: []lab.Need{lab.Legacy},
			start: func(t *testing.T) {
				lab.Sh(t, "printf '*filter\n:INPUT DROP\n:FORWARD ACCEPT\nCOMMIT\n' | iptables-legacy-restore")
			},
			open: "iptables-legacy -A" + accept, close: "iptables-legacy -D" + accept,
		},
		"nftables": {
			start: func(t *testing.T) {
				lab.Sh(t, "nft 'table inet f { chain in { type filter hook input priority 0; policy drop; }; }'")
			},
			told: true,
			open: `nft insert rule inet f in iifname "qn-dev" tcp dport 34567 accept`, close: "nft flush chain inet f in", // and what the notes said
		},
		"ufw": {
			needs: ufw.Needs,
			start: func(t *testing.T) { ufw.Start(t) },
			open:  "ufw allow in on qn-dev to any port 34567", close: "ufw delete allow in on qn-dev to any port 34567",
		},
	} {
		for _, mode := range []profiles.Mode{profiles.HostOnly, profiles.NAT} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				lab.Require(t, append(c.needs, lab.Program("busybox"))...)
				start := func(t *testing.T) {
					lab.Sh(t, "ip addr add fe80::77/64 dev eth0 nodad")
					lab.Eventually(t, 5*time.Second, "the kernel's routes", func() bool {
						return strings.Contains(lab.Sh(t, "ip -6 route show table local"), "fe80::77")
					})
					c.start(t)
				}
				beside(t, start, func(t *testing.T, o Options) { c.try(t, o, mode) })
			})
		}
	}
}

// try starts a guest beside the firewall, and has it try the host's ports.
func (f firewall) try(t *testing.T, o Options, mode profiles.Mode) {
	other := mustJoin(t, o, Network{Name: "other", Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("10.78.0.0/24")}, "db", port(2))
	r := mustJoin(t, o, Network{Name: "dev", Mode: mode, Subnet: subnet}, "web", port(1))
	natGuest(t)
	doAsNoted(t, r, f.told)
	got := &received{}
	got.listen(t, hostsPorts...)
	lab.InNamespace(t, "guest", func() error { got.listen(t, "10.77.0.9:34580"); return nil })

	var want []string
	if f.open == "" {
		for _, a := range []string{"0.0.0.0:34560", "10.77.0.1:34567", "10.78.0.1:34563", "192.0.2.10:34562", "[::]:34561"} {
			want = append(want, "tcp "+a, "udp "+a)
		}
		slices.Sort(want)
	}
	if reached := knocks(t, got); !slices.Equal(reached, want) {
		t.Errorf("reached %q, want %q", reached, want)
	}
	if missing := needed(t); len(missing) > 0 {
		t.Errorf("missing %q", missing)
	}
	if f.open != "" {
		lab.Sh(t, f.open)
		if _, tcp := tries(t, "guest", "10.77.0.1:34567"); !tcp {
			t.Errorf("%s does not open it", f.open)
		}
		lab.Sh(t, f.close)
	}
	got.close()
	lab.Sh(t, "ip link del vguest; ip netns del guest")
	mustLeave(t, r)
	mustLeave(t, other)
}
