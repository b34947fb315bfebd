package keeper_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// rename renames a link that is down, as udev does, and gives back the route that it loses
// then.
func rename(t *testing.T, from, to string) {
	t.Helper()
	lab.Sh(t, fmt.Sprintf(`routes=$(ip route show default dev %[1]s)
ip link set %[1]s down; ip link set %[1]s name %[2]s; ip link set %[2]s up
[ -z "$routes" ] || ip route add $routes dev %[2]s`, from, to))
}

func forwards(link string) string {
	out, _ := lab.Try("cat /proc/sys/net/ipv4/conf/" + link + "/forwarding")
	return strings.TrimSpace(out)
}

// renamed is a network whose uplink is renamed while VMs run.
type renamed struct {
	n       Network
	prepare string // a script that makes the host
	link    string // is renamed
	bridge  string // of the guest; "" for no guest
	address string // the guest's
	reaches string // from the guest
}

var renames = map[string]renamed{
	"nat":         {Network{Mode: profiles.NAT, Subnet: subnet}, "", "eth0", "qn-dev", "10.77.0.9/24", "203.0.113.1"},
	"nat, pinned": {Network{Mode: profiles.NAT, Subnet: subnet, Uplink: "eth0"}, "", "eth0", "qn-dev", "10.77.0.9/24", "203.0.113.1"},
	"nat, by an alternative name": {
		Network{Mode: profiles.NAT, Subnet: subnet, Uplink: "an-alternative-name"},
		"ip link property add dev eth0 altname an-alternative-name", "eth0", "qn-dev", "10.77.0.9/24", "203.0.113.1",
	},
	"host-only": {Network{Mode: profiles.HostOnly, Subnet: subnet}, "", "eth0", "qn-dev", "10.77.0.9/24", "10.77.0.1"},
	"move":      {Network{Mode: profiles.Bridge}, "", "eth0", "qn-dev", "192.0.2.99/24", "192.0.2.1"},
	"move with labels and rules": {
		Network{Mode: profiles.Bridge},
		"ip addr add 192.0.2.11/24 dev eth0 label eth0:1; ip rule add iif eth0 lookup 7 priority 99",
		"eth0", "qn-dev", "192.0.2.99/24", "192.0.2.1",
	},
	"spare NIC": {
		Network{Mode: profiles.Bridge, Uplink: "eth1"},
		`ip link add eth1 type veth peer name lan1 netns inet; ip link set eth1 addrgenmode none
ip -n inet link set lan1 addrgenmode none up; ip -n inet addr add 198.51.100.1/24 dev lan1; ip link set eth1 up
until grep -q up /sys/class/net/eth1/operstate; do sleep 0.02; done`,
		"eth1", "qn-dev", "198.51.100.9/24", "198.51.100.1",
	},
	"bridge of the host": {
		Network{Mode: profiles.Bridge, Uplink: "br0"},
		`ip link add br0 type bridge; ip link add port0 address 02:00:00:00:00:01 type veth peer name port1 netns inet
ip -n inet link set port1 up; ip link set port0 addrgenmode none master br0 up; ip link set br0 addrgenmode none up; ip addr add 198.51.100.1/24 dev br0
until grep -q up /sys/class/net/br0/operstate; do sleep 0.02; done`,
		"br0", "br0", "198.51.100.9/24", "198.51.100.1",
	},
	"macvtap": {Network{Mode: profiles.Bridge, Macvtap: true}, "", "eth0", "", "", ""},
}

func (c renamed) online() bool { return c.bridge == "" || lab.Pings("vm1", c.reaches) }

// connect adds the guest, until disconnect.
func (c renamed) connect(t *testing.T) (disconnect func()) {
	t.Helper()
	if c.bridge == "" {
		return func() {}
	}
	gateway := ""
	if c.n.Mode == profiles.NAT {
		gateway = "10.77.0.1"
	}
	lab.Guest(t, "vm1", c.bridge, c.address, gateway)
	lab.Eventually(t, 5*time.Second, "the guest is online at first", c.online)
	return func() { lab.Sh(t, "ip link del vvm1; ip netns del vm1") }
}

// killBoth is killBoth, also of a macvtap link, which stays.
func (c renamed) killBoth(t *testing.T, r *Registration) {
	t.Helper()
	if !c.n.Macvtap {
		killBoth(t, r)
		return
	}
	r.Forsake()
	kill(t, r.Info().KeeperPID)
	<-r.Done()
	r.Ports()[0].File.Close()
}

// nextKeeper kills the registration's keeper and waits for the one that adopts the network.
func nextKeeper(t *testing.T, o Options, r *Registration) {
	t.Helper()
	was := r.Info().KeeperPID
	kill(t, was)
	lab.Eventually(t, 15*time.Second, "the next keeper", func() bool {
		infos, err := List(t.Context(), o.RunDir)
		return err == nil && len(infos) == 1 && infos[0].KeeperPID != was && len(infos[0].VMs) == 1
	})
}

// collect is qnet gc, which may come before or after the watchdog.
func collect(t *testing.T, o Options) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "nothing left to collect", func() bool {
		if _, err := Collect(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		return !exists(journalOf(o, "dev"))
	})
}

// Another program renames the uplink while VMs run, before or after the death of the keeper.
// Guests stay online, and in the end the host is as it was, under the new name.
func TestUplinkIsRenamed(t *testing.T) {
	for name, c := range renames {
		c.n.Name = "dev"
		for when, f := range map[string]func(t *testing.T, o Options, r *Registration, disconnect func()){
			"running": func(t *testing.T, o Options, r *Registration, disconnect func()) {
				rename(t, c.link, "enp1s0")
				lab.Eventually(t, 5*time.Second, "the guest online after the rename", c.online)
				mustLeave(t, mustJoin(t, o, c.n, "db", port(2))) // by the name of before
				disconnect()
				mustLeave(t, r)
			},
			"adopted": func(t *testing.T, o Options, r *Registration, disconnect func()) {
				rename(t, c.link, "enp1s0")
				nextKeeper(t, o, r)
				lab.Eventually(t, 5*time.Second, "the guest online under the next keeper", c.online)
				disconnect()
				mustLeave(t, r)
			},
			"unseen": func(t *testing.T, o Options, r *Registration, disconnect func()) {
				disconnect()
				unix.Kill(r.Info().KeeperPID, unix.SIGSTOP) // else it sees the rename
				rename(t, c.link, "enp1s0")
				c.killBoth(t, r)
				collect(t, o)
			},
			"killed": func(t *testing.T, o Options, r *Registration, disconnect func()) {
				rename(t, c.link, "enp1s0")
				lab.Eventually(t, 5*time.Second, "the guest online after the rename", c.online)
				disconnect()
				c.killBoth(t, r)
				collect(t, o)
			},
		} {
			t.Run(name+", "+when, func(t *testing.T) {
				if c.n.Macvtap {
					lab.Require(t, lab.Root)
				}
				beside(t, func(t *testing.T) { lab.Sh(t, c.prepare) }, func(t *testing.T, o Options) {
					o.AssumeYes = true
					told := &notes{}
					o.Note = told.add
					if c.n.Macvtap && (when == "running" || when == "adopted") {
						defer supervised(t, o, "web")()
					}
					r := mustJoin(t, o, c.n, "web", port(1))
					f(t, o, r, c.connect(t))
					if got := forwards("enp1s0"); got != "0" {
						t.Errorf("forwarding of the uplink afterwards: %q", got)
					}
					if told.count("cannot be put right")+told.count("done again") > 0 {
						t.Errorf("told %q", told.texts)
					}
					rename(t, "enp1s0", c.link)
				})
			})
		}
	}
}

// Uplinks come and go and change names with each other. Each has its own forwarding again in
// the end, whatever the other one's was.
func TestUplinksComeAndGo(t *testing.T) {
	const second = `ip link add eth1 type veth peer name lan1 netns inet; ip link set eth1 addrgenmode none up; ip -n inet link set lan1 addrgenmode none up
ip addr add 198.51.100.10/24 dev eth1`
	again := "ip link del eth1; " + second
	for name, c := range map[string]struct {
		change string
		during map[string]string // forwarding while VMs run, by link
		after  map[string]string
	}{
		"swapped": {
			`for l in eth0 eth1; do ip link set $l down; done; ip link set eth0 name x; ip link set eth1 name eth0; ip link set x name eth1
for l in eth0 eth1; do ip link set $l up; done`,
			map[string]string{"eth0": "1", "eth1": "1"},
			map[string]string{"eth0": "1", "eth1": "0"},
		},
		"made again":                  {again, map[string]string{"eth1": "1"}, map[string]string{"eth0": "0", "eth1": "0"}},
		"made again, and it forwards": {again + "; sysctl -qw net/ipv4/conf/eth1/forwarding=1", map[string]string{"eth1": "1"}, map[string]string{"eth0": "0", "eth1": "1"}},
		"forwarded by qnet, made again, and forwards": {
			`ip link del eth0; ip link add eth0 type veth peer name lan0 netns inet; ip link set eth0 addrgenmode none up; sysctl -qw net/ipv4/conf/eth0/forwarding=1
ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1`,
			map[string]string{"eth0": "1"},
			map[string]string{"eth0": "1", "eth1": "1"},
		},
		"away and back": {
			`ip netns add elsewhere; ip link set eth0 netns elsewhere; ip -n elsewhere link set eth0 netns $$; ip netns del elsewhere
ip link set eth0 up; ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1`,
			map[string]string{"eth0": "1"},
			map[string]string{"eth0": "0", "eth1": "1"},
		},
		"gone, and another one has its name": {
			"ip link set eth1 down; ip link set eth1 name eth9; ip link del eth0; ip link set eth9 name eth0; ip link set eth0 up",
			map[string]string{"eth0": "1"},
			map[string]string{"eth0": "1"},
		},
		"another link has its index": {
			`sysctl -qw net/ipv4/conf/eth1/forwarding=0; i=$(cat /sys/class/net/eth0/ifindex); ip link del eth0
ip link add eth7 index $i type veth peer name lan7 netns inet; sysctl -qw net/ipv4/conf/eth7/forwarding=1`,
			map[string]string{"eth7": "1"},
			map[string]string{"eth7": "1"},
		},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, killed %t", name, killed), func(t *testing.T) {
				lab.Require(t, lab.Tun, lab.Program("nft"))
				lab.Run(t, func(t *testing.T) {
					lab.Uplink(t)
					lab.Sh(t, second+"; sysctl -qw net/ipv4/conf/eth1/forwarding=1")
					o := labOptions(t)
					r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
					if killed {
						unix.Kill(r.Info().KeeperPID, unix.SIGSTOP)
					}
					lab.Sh(t, c.change)
					if killed {
						killBoth(t, r)
						collect(t, o)
					} else {
						lab.Eventually(t, 5*time.Second, "forwarding while VMs run", func() bool { return unforwarded(c.during) == "" })
						mustLeave(t, r)
					}
					if diff := unforwarded(c.after); diff != "" {
						t.Errorf("afterwards %s", diff)
					}
				})
			})
		}
	}
}

// forward lists the links whose forwarding is not as wanted.
func unforwarded(want map[string]string) (diff string) {
	for link, value := range want {
		if got := forwards(link); got != value {
			diff += fmt.Sprintf("%s %q, want %q; ", link, got, value)
		}
	}
	return diff
}

// Another program renames the network's own bridge and tap. They get their names back, because
// rules and steps know them by these, and nothing is left in the end, also after a crash.
func TestOwnLinksAreRenamed(t *testing.T) {
	renameBoth := func(t *testing.T) {
		t.Helper()
		lab.Sh(t, `for names in "qn-dev mine" "qnweb0 mine0"; do set -- $names
	ip link set $1 name $2 2>/dev/null || { ip link set $1 down; ip link set $1 name $2; ip link set $2 up; }
done`)
	}
	for _, mode := range []profiles.Mode{profiles.Private, profiles.NAT, profiles.Bridge} {
		t.Run(string(mode), func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				o.AssumeYes = true
				told := &notes{}
				o.Note = told.add
				n := Network{Name: "dev", Mode: mode}
				r := mustJoin(t, o, n, "web", port(1))
				index := lab.Sh(t, "cat /sys/class/net/qn-dev/ifindex")
				renameBoth(t)
				lab.Eventually(t, 5*time.Second, "the names of before", func() bool {
					out, _ := lab.Try("cat /sys/class/net/qn-dev/ifindex; ip link show qnweb0 | grep -q 'master qn-dev' && ip link show qn-dev | grep -q '[<,]UP'")
					return out == index
				})
				lab.Eventually(t, 5*time.Second, "a note about that", func() bool { return told.count("they have their names again") > 0 })
				if told.count("cannot be put right") > 0 {
					t.Error("told that the names cannot be put right")
				}
				unix.Kill(r.Info().KeeperPID, unix.SIGSTOP)
				renameBoth(t)
				r.Forsake()
				kill(t, r.Info().KeeperPID)
				<-r.Done()
				r.Ports()[0].File.Close()
				collect(t, o)
			})
		})
	}
}
