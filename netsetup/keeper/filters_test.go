package keeper_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// reloadTime is how soon accepts are back after another firewall reloaded (F05).
const reloadTime = 2 * time.Second

// needIPTables are the programs of both engines.
func needIPTables(t *testing.T) {
	t.Helper()
	lab.Require(t, lab.Program("iptables-nft"), lab.Legacy)
}

// natGuest starts a guest of network dev in place of the VM whose tap the test holds.
func natGuest(t *testing.T) {
	t.Helper()
	lab.Guest(t, "guest", "qn-dev", "10.77.0.9/24", "10.77.0.1")
}

func reaches() bool {
	return lab.Pings("guest", "203.0.113.1") && lab.Pings("guest", "10.77.0.1")
}

// Another program sets its filters before qnet's start, after it, and again and again
// while VMs run. Guests reach what they may within 2 s, each rule of qnet's is there
// once, and none stays at the end.
func TestReloadsOfOtherFilters(t *testing.T) {
	for name, c := range map[string]struct{ set, clear string }{
		"iptables-nft": {
			"iptables-nft -F FORWARD; iptables-nft -F INPUT; iptables-nft -P FORWARD DROP; iptables-nft -P INPUT DROP",
			"nft delete table ip filter 2> /dev/null || true",
		},
		"iptables-legacy": {
			"printf '*filter\n:INPUT DROP\n:FORWARD DROP\nCOMMIT\n' | iptables-legacy-restore",
			"printf '*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\nCOMMIT\n' | iptables-legacy-restore",
		},
		"a user's chain": {
			"printf '*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:DOCKER-USER -\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j DROP\nCOMMIT\n' | iptables-nft-restore",
			"nft delete table ip filter 2> /dev/null || true",
		},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T) { lab.Sh(t, c.clear) }, func(t *testing.T, o Options) {
				needIPTables(t)
				r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
				natGuest(t)
				if !reaches() {
					t.Fatal("the guest reaches nothing with no filter")
				}
				rounds := 2
				if name == "iptables-nft" {
					rounds = stepRounds + 1 // reloads are no fight that we give up
				}
				for range rounds {
					lab.Sh(t, c.set)
					lab.Eventually(t, reloadTime, "guests reach the host and the outside again", reaches)
				}
				lab.Sh(t, "ip netns del guest")
				mustLeave(t, r)
				lab.Sh(t, c.set)
				before := lab.Snapshot(t)
				r = mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
				natGuest(t)
				if !reaches() {
					t.Error("the guest reaches nothing where the filter was first")
				}
				for line, n := range count(lab.Sh(t, "iptables-nft-save; iptables-legacy-save")) {
					if strings.Contains(line, "qnet:dev") && n != 1 {
						t.Errorf("%d times %s", n, line)
					}
				}
				lab.Sh(t, "ip netns del guest")
				mustLeave(t, r)
				before.Check(t)
				lab.Sh(t, c.set) // no zombies: a reload brings nothing back
				before.Check(t)
				lab.Sh(t, c.clear)
			})
		})
	}
}

func count(text string) map[string]int {
	n := map[string]int{}
	for line := range strings.Lines(text) {
		n[strings.TrimSpace(line)]++
	}
	return n
}

// The next keeper takes over a killed keeper's accepts, and gc removes them.
func TestAcceptsOfAKilledKeeper(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		needIPTables(t)
		lab.Sh(t, "printf '*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\nCOMMIT\n' | iptables-nft-restore")
		before := lab.Snapshot(t)
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		killBoth(t, mustJoin(t, o, n, "web", port(1)))
		lab.Sh(t, "iptables-nft -S FORWARD | grep -c qnet:dev | grep -qx 2")
		// As a firewall does that saved its rules with ours among them.
		lab.Sh(t, "iptables-nft-save | iptables-nft-restore -n; iptables-nft -I FORWARD -i qn-old -m comment --comment qnet:dev -j ACCEPT")
		// As an older qnet, which opened all ports of the gateway's address.
		lab.Sh(t, "iptables-nft -I INPUT -s 10.77.0.0/24 -d 10.77.0.1/32 -i qn-dev -m comment --comment qnet:dev -j ACCEPT")
		r := mustJoin(t, o, n, "web", port(1))
		lab.Sh(t, "iptables-nft -S FORWARD | grep -c qnet:dev | grep -qx 2; iptables-nft -S INPUT | grep -c qnet:dev | grep -qx 0")
		killBoth(t, r)
		if removed, err := Collect(t.Context(), o); err != nil || len(removed) != 1 {
			t.Errorf("removed %q, %v", removed, err)
		}
		before.Check(t)
		lab.Sh(t, "nft delete table ip filter")
	})
}

// The keeper tells once what drops packets and cannot be answered, with the line to
// add. The network stands.
func TestForeignDropIsTold(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		lab.Sh(t, "nft 'table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }'")
		var mu sync.Mutex
		var notes []string
		o.Note = func(n Note) {
			mu.Lock()
			defer mu.Unlock()
			notes = append(notes, n.String())
		}
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Sh(t, "nft add rule inet filter forward counter; nft add chain inet filter other")
		said := func() string {
			mu.Lock()
			defer mu.Unlock()
			return strings.Join(notes, "\n")
		}
		lab.Eventually(t, reloadTime, "the note", func() bool {
			return strings.Contains(said(), `nft insert rule inet filter forward iifname "qn-dev" accept`)
		})
		lab.Sh(t, `nft insert rule inet filter forward iifname "qn-dev" accept; nft insert rule inet filter forward oifname "qn-dev" ct state established,related accept`)
		natGuest(t)
		if !lab.Pings("guest", "203.0.113.1") {
			t.Error("the lines of the note do not help")
		}
		if n := strings.Count(said(), "policy drop"); n != 1 {
			t.Errorf("told %d times:\n%s", n, said())
		}
		lab.Sh(t, "ip netns del guest")
		mustLeave(t, r)
		lab.Sh(t, "nft delete table inet filter")
	})
}

// If the keeper cannot insert an accept, the guests lose what it lets pass, and the
// network stands.
func TestAcceptFails(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		needIPTables(t)
		lab.Sh(t, "iptables-nft -P FORWARD DROP; mount --bind /bin/false $(readlink -f $(command -v iptables-nft))")
		var notes []string
		o.Note = func(n Note) { notes = append(notes, n.String()) }
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT}, "web", port(1))
		mustLeave(t, r)
		if text := strings.Join(notes, "\n"); !strings.Contains(text, "iptables-nft -w 10 -t filter -I FORWARD") {
			t.Errorf("notes %q", text)
		}
		lab.Sh(t, "umount $(readlink -f $(command -v iptables-nft)); nft delete table ip filter")
	})
}

// If another program turns forwarding on for all links, as Docker does when it starts
// later, the network's rules let those links forward, and forwarding stays on. If it
// is turned off again, the network's rules drop such packets again.
func TestForwardingWantedByAnother(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		lab.Sh(t, `ip netns add box; ip link add box0 type veth peer name eth0 netns box; ip addr add 10.9.0.1/24 dev box0; ip link set box0 up
ip -n box addr add 10.9.0.2/24 dev eth0; ip -n box link set eth0 up; ip -n box route add default via 10.9.0.1
ip -n inet route add 10.9.0.0/24 via 192.0.2.10; ip -n inet route add 10.77.0.0/24 via 192.0.2.10`)
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		natGuest(t)
		if lab.Pings("inet", "10.9.0.2") {
			t.Error("our forwarding of eth0 lets the outside reach the host's other links")
		}
		lab.Sh(t, "sysctl -qw net.ipv4.ip_forward=1")
		lab.Eventually(t, reloadTime, "what another forwards passes", func() bool { return lab.Pings("inet", "10.9.0.2") })
		if lab.Pings("inet", "10.77.0.9") || !lab.Pings("guest", "203.0.113.1") {
			t.Error("the network's own rules no longer hold")
		}
		lab.Sh(t, "nft delete table inet qnet_dev 2> /dev/null || true; ip link set dev qn-dev down")
		lab.Eventually(t, reloadTime, "and after a mend", func() bool { return lab.Pings("inet", "10.9.0.2") && lab.Pings("guest", "203.0.113.1") })
		lab.Sh(t, "ip netns del guest")
		mustLeave(t, r)
		if on := lab.Sh(t, "sysctl -n net.ipv4.conf.eth0.forwarding"); on != "1\n" {
			t.Errorf("forwarding of eth0 is %q, which another program wants by now", on)
		}
		// With it on from the beginning there is nothing to undo.
		mustLeave(t, mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1)))
		if on := lab.Sh(t, "sysctl -n net.ipv4.conf.eth0.forwarding"); on != "1\n" {
			t.Errorf("forwarding of eth0 is %q, and was on before", on)
		}
		lab.Sh(t, "sysctl -qw net.ipv4.ip_forward=0")
		r = mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Sh(t, "sysctl -qw net.ipv4.ip_forward=1; sleep 1; sysctl -qw net.ipv4.ip_forward=0")
		lab.Eventually(t, reloadTime, "the rules drop what only our forwarding lets pass", func() bool {
			return strings.Contains(lab.Sh(t, "nft list set inet qnet_dev newly_forwarded"), "eth0")
		})
		mustLeave(t, r)
		lab.Sh(t, "ip netns del box; ip -n inet route del 10.9.0.0/24; ip -n inet route del 10.77.0.0/24; sysctl -qw net.ipv4.conf.all.accept_redirects=$(cat /proc/sys/net/ipv4/conf/default/accept_redirects)")
	})
}

// The keeper waits for another program that holds the lock of iptables-legacy. While
// another program changes rules all the time, no accept is lost, there twice, or left
// behind (F09).
func TestAcceptsWhileOthersChangeRules(t *testing.T) {
	beside(t, func(t *testing.T) {
		needIPTables(t)
		lock := t.TempDir() + "/lock"
		lab.Sh(t, "touch /run/xtables.lock "+lock+"; mount --bind "+lock+" /run/xtables.lock")
		for _, p := range []string{"iptables-nft", "iptables-legacy"} {
			lab.Sh(t, `printf '*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n:churn -\nCOMMIT\n' | `+p+"-restore")
		}
	}, func(t *testing.T, o Options) {
		churn := lab.Daemon(t, "sh", "-c", "while :; do for p in iptables-nft iptables-legacy; do $p -w -A churn -s 10.1.2.3 -j ACCEPT; $p -w -D churn -s 10.1.2.3 -j ACCEPT; done; done")
		defer lab.Sh(t, "iptables-nft -F churn; iptables-legacy -w -F churn")
		defer churn()
		for i := range 5 {
			if i == 0 {
				defer lab.Daemon(t, "flock", "/run/xtables.lock", "sleep", "2")()
			}
			r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
			rules := lab.Sh(t, "iptables-nft -S FORWARD; iptables-legacy -w -S FORWARD")
			if n := strings.Count(rules, "qnet:dev"); n != 4 {
				t.Errorf("round %d: %d accepts, want 4:\n%s", i, n, rules)
			}
			mustLeave(t, r)
		}
	})
}
