package keeper_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// notes gathers what a keeper tells a registration.
type notes struct {
	mu    sync.Mutex
	texts []string
}

func (n *notes) add(note Note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.texts = append(n.texts, note.String())
}

func (n *notes) count(words string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	found := 0
	for _, t := range n.texts {
		if strings.Contains(t, words) {
			found++
		}
	}
	return found
}

// links prints the network's links, addresses, ports and sysctls.
const links = `for l in qn-dev qnweb0; do ip -o link show $l | sed 's/^[0-9]*: //; s/qdisc.*master/master/; s/ state .*//; s/ qdisc.*//'; done
ip -4 -o addr show dev qn-dev | cut -d' ' -f2-7; nft list tables | sort
cat /proc/sys/net/ipv4/conf/qn-dev/forwarding /proc/sys/net/ipv4/conf/eth0/forwarding /proc/sys/net/ipv4/conf/qn-dev/rp_filter
cat /proc/sys/net/ipv6/conf/qn-dev/disable_ipv6 /proc/sys/net/ipv6/conf/qnweb0/disable_ipv6`

// The keeper puts right within 2 s what another program changes of a network while VMs
// run, and tells it in one line. The network works as before.
func TestHostileManager(t *testing.T) {
	for _, mode := range []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT} {
		t.Run(string(mode), func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				told := &notes{}
				o.Note = told.add
				n := Network{Name: "dev", Mode: mode}
				if mode != profiles.Private {
					n.Subnet = subnet
				}
				r := mustJoin(t, o, n, "web", port(1))
				whole := lab.Sh(t, links)
				for what, script := range map[string]string{
					"addresses":  "ip addr flush dev qn-dev",
					"port":       "ip link set qnweb0 nomaster",
					"bridge-off": "ip link set qn-dev down",
					"tap-off":    "ip link set qnweb0 down",
					"bridge":     "ip link del qn-dev",
					"forwarding": "sysctl -qw net/ipv4/conf/qn-dev/forwarding=0 net/ipv4/conf/eth0/forwarding=0",
					"ip_forward": "sysctl -qw net/ipv4/ip_forward=1; sysctl -qw net/ipv4/ip_forward=0",
					"nftables":   "nft flush ruleset",
					"iptables":   "iptables-nft -P FORWARD ACCEPT; iptables-nft -F; iptables-nft -t nat -F; iptables-nft-save | iptables-nft-restore; nft flush ruleset",
				} {
					before := told.count("done again")
					lab.Sh(t, script)
					now, _ := lab.Try(links)
					broken := now != whole
					begin := time.Now()
					for now := ""; now != whole && time.Since(begin) < 15*time.Second; {
						now, _ = lab.Try(links)
					}
					if took := time.Since(begin); took > 2*time.Second*patience {
						now, _ := lab.Try(links)
						t.Errorf("%s: after %s it is\n%s\nand was\n%s", what, took, now, whole)
					}
					if !broken {
						continue // the script changed nothing
					}
					lab.Eventually(t, 10*time.Second, what+": the note", func() bool { return told.count("done again") > before })
				}
				if mode != profiles.Private {
					lab.Guest(t, "vm1", "qn-dev", "", "")
					out := lab.Sh(t, "ip netns exec vm1 busybox udhcpc -n -q -t 5 -T 1 -i eth0 -s /bin/true 2>&1; ip link del vvm1; ip netns del vm1")
					if !strings.Contains(out, "lease of 10.77.0.") {
						t.Errorf("no lease after all that: %s", out)
					}
				}
				mustLeave(t, r)
				lab.Sh(t, "nft flush ruleset")
			})
		})
	}
}

// After five rounds of the same fight the keeper lets the other program have its way,
// and says so.
func TestFightIsGivenUp(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		told := &notes{}
		o.Note = told.add
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		for range stepRounds {
			lab.Sh(t, "ip link set qn-dev down")
			lab.Eventually(t, 10*time.Second, "the bridge up again", func() bool {
				_, err := lab.Try("ip link show qn-dev | grep -q '[<,]UP'")
				return err == nil
			})
		}
		lab.Sh(t, "ip link set qn-dev down; sleep 1; ! ip link show qn-dev | grep -q '[<,]UP'")
		lab.Eventually(t, 10*time.Second, "the note", func() bool { return told.count("given up after 5 rounds") == 1 })
		mustLeave(t, r)
	})
}

// The keeper does not take a VM's ordinary end for another program's doing, and tells
// once of a deleted tap.
func TestLostTaps(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		told := &notes{}
		o.Note = told.add
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}
		stays := mustJoin(t, o, n, "stays", port(1))
		goes := mustJoin(t, o, n, "goes", port(2))
		goes.Ports()[0].File.Close() // as QEMU's end does
		time.Sleep(500 * time.Millisecond)
		mustLeave(t, goes)
		time.Sleep(500 * time.Millisecond)
		if n := told.count("another program"); n != 0 {
			t.Errorf("an ordinary end is told of: %q", told.texts)
		}
		lab.Sh(t, "ip link del qnstays0")
		lab.Eventually(t, lostTimeout+3*time.Second, "the note", func() bool { return told.count("deleted a tap of VM stays") == 1 })
		mustLeave(t, stays)
	})
}
