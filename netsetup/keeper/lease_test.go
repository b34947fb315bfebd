package keeper_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/profiles"
)

// dhcpNetwork has networkd ask for a lease on eth0.
const dhcpNetwork = "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n"

// clientCase is a DHCP client that has eth0's lease.
type clientCase struct {
	needs []lab.Need
	start func(t *testing.T) (address string)
	renew string // makes the client renew, which takes it a minute otherwise
	acks  int    // up to and with the first that came when it was due: what was tried before, and at once
	anew  bool   // it asks for its lease as soon as it has the NIC back
	kept  bool   // its address stays on the port, too
	lost  int    // pings that may be lost besides: it takes the address away for a moment
}

func dhcpClient(name string) clientCase {
	return clientCase{needs: programs.DHCPClientNeeds(name), acks: 1, start: func(t *testing.T) string {
		t.Helper()
		address, _ := programs.DHCPClient(t, name)
		return address
	}}
}

func clientCases() map[string]clientCase {
	udhcpc, dhcpcd := dhcpClient("udhcpc"), dhcpClient("dhcpcd")
	udhcpc.renew = `for p in /proc/[0-9]*; do case $(tr '\0' ' ' < $p/cmdline) in "busybox udhcpc -f -i eth0"*) [ $p/ns/net -ef /proc/self/ns/net ] && kill -USR1 ${p#/proc/}; esac; done; true`
	udhcpc.acks, dhcpcd.acks = 3, 2
	dhcpcd.anew, dhcpcd.kept, dhcpcd.lost = true, true, 30
	return map[string]clientCase{
		"udhcpc": udhcpc, "dhcpcd": dhcpcd, "dhclient": dhcpClient("dhclient"),
		"systemd-networkd": {needs: programs.NetworkdNeeds, acks: 3, anew: true, start: func(t *testing.T) string {
			t.Helper()
			programs.Networkd(t, map[string]string{"50-lan.network": dhcpNetwork}, false)
			return programs.Leased(t)
		}},
		"NetworkManager": {needs: programs.NetworkManagerNeeds(), lost: 30, acks: 3, anew: true, start: func(t *testing.T) string {
			t.Helper()
			programs.NetworkManager(t, "")
			return programs.Leased(t)
		}},
	}
}

// onLAN runs the test on a host of a LAN, with options of its own.
func onLAN(t *testing.T, lan lab.LANOptions, f func(t *testing.T, lan *lab.LAN, o Options)) {
	t.Helper()
	lab.Require(t, lab.Tun, lab.Program("nft"), lab.Program("dnsmasq"))
	lab.Run(t, func(t *testing.T) {
		l := lab.NewLAN(t, lan)
		f(t, l, labOptions(t))
	})
}

// held lists what the host has by a link, without times and the kernel's own notes.
func held(t *testing.T, link string) string {
	t.Helper()
	return lab.Sh(t, `ip -4 -o addr show dev `+link+` | sed 's/^[0-9]*: //; s/valid_lft.*//; s/noprefixroute//; s/  */ /g'; ip -4 route show dev `+link)
}

// The host keeps its lease, and its address, while a real client's NIC is a port. The
// server gets the same client identifier. Afterwards the client finds its lease again and
// renews it.
func TestLeaseWhileAPort(t *testing.T) {
	for name, c := range clientCases() {
		t.Run(name, func(t *testing.T) {
			lab.Require(t, c.needs...)
			onLAN(t, lab.LANOptions{DHCP: true, Lease: 2 * time.Minute, Renew: 9 * time.Second}, func(t *testing.T, lan *lab.LAN, o Options) {
				leaseWhileAPort(t, lan, o, c)
			})
		})
	}
}

func leaseWhileAPort(t *testing.T, lan *lab.LAN, o Options, c clientCase) {
	t.Helper()
	address := c.start(t)
	before, id := held(t, "eth0"), identity(t, lan)
	acks := func() int { return strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+address) }
	told := &notes{}
	o.Note = told.add
	ping, talk := lab.PingFrom(t, "outside", address), lab.Talk(t, "outside", address)

	first := acks()
	r := mustJoin(t, o, Network{Name: "lan", Mode: profiles.Bridge}, "web", port(1))
	lab.Eventually(t, 40*time.Second, "a renewal on the port", func() bool { return acks() >= first+c.acks })
	if out := held(t, "qn-lan"); !strings.Contains(out, "inet "+address) || !strings.Contains(out, "default via") {
		t.Errorf("the bridge has\n%s", out)
	}
	lab.Eventually(t, 3*time.Second, "the port without the address", func() bool {
		return c.kept || !strings.Contains(held(t, "eth0"), address)
	})
	first = acks()
	mustLeave(t, r)
	if !c.anew {
		first = acks()
	}
	lab.Sh(t, "true; "+c.renew)
	lab.Eventually(t, 40*time.Second, "a renewal on the NIC", func() bool { return acks() > first })
	if lost := ping(); lost.Lost > c.lost+lab.MoveLoss {
		t.Errorf("pings: %s", lost)
	} else {
		t.Logf("pings: %s", lost)
	}
	if lost := talk(); lost.Lost > 0 {
		t.Errorf("the TCP connection: %s", lost)
	}
	if after := held(t, "eth0"); after != before {
		t.Errorf("afterwards\n%s\nbefore\n%s", after, before)
	}
	if after := identity(t, lan); after != id {
		t.Errorf("the server knows %s, and knew %s", after, id)
	}
	if len(told.texts) > 0 {
		t.Errorf("told %q", told.texts)
	}
}

// staticNetwork is a configuration without DHCP.
const staticNetwork = "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.10/24\nGateway=192.0.2.1\n"

// A program that configures the NIC, by DHCP or not, leaves it in the bridge when that
// program restarts while VMs run, and has it as before afterwards.
func TestConfiguratorRestarted(t *testing.T) {
	networkd := func(text string) func(*testing.T) func() {
		return func(t *testing.T) func() {
			t.Helper()
			return programs.Networkd(t, map[string]string{"50-lan.network": text}, false)
		}
	}
	for name, c := range map[string]struct {
		needs []lab.Need
		start func(t *testing.T) (restart func())
		lost  int
	}{
		"systemd-networkd, DHCP":   {programs.NetworkdNeeds, networkd(dhcpNetwork), 0},
		"systemd-networkd, static": {programs.NetworkdNeeds, networkd(staticNetwork), 0},
		"NetworkManager, DHCP": {programs.NetworkManagerNeeds(), func(t *testing.T) func() {
			t.Helper()
			return programs.NetworkManager(t, "")
		}, 30},
		"NetworkManager, static": {programs.NetworkManagerNeeds(), func(t *testing.T) func() {
			t.Helper()
			restart := programs.NetworkManager(t, "")
			for _, args := range []string{
				"connection add type ethernet ifname eth0 con-name lan ipv4.method manual ipv4.addresses 192.0.2.10/24 ipv4.gateway 192.0.2.1 ipv6.method disabled",
				"connection up lan",
			} {
				if out, err := programs.NMCLI(args); err != nil {
					t.Fatal(args, err, out)
				}
			}
			return restart
		}, 30},
	} {
		t.Run(name, func(t *testing.T) {
			lab.Require(t, c.needs...)
			onLAN(t, lab.LANOptions{DHCP: true}, func(t *testing.T, _ *lab.LAN, o Options) {
				restart := c.start(t)
				address, before := programs.Leased(t), held(t, "eth0")
				ping := lab.PingFrom(t, "outside", address)
				r := mustJoin(t, o, Network{Name: "lan", Mode: profiles.Bridge}, "web", port(1))
				restart()
				time.Sleep(3 * time.Second) // time to take the NIC back
				if out := held(t, "qn-lan"); !strings.Contains(out, "inet "+address) || !strings.Contains(out, "default via") {
					t.Errorf("the bridge has\n%s", out)
				}
				lab.Sh(t, "ip link show eth0 | grep -q 'master qn-lan'")
				mustLeave(t, r)
				lab.Eventually(t, 10*time.Second, "the program has its NIC again", func() bool {
					if strings.HasPrefix(name, "systemd") {
						return !networkdHas(t, "eth0", "unmanaged")
					}
					out, _ := programs.NMCLI("-t -f DEVICE,STATE device")
					return strings.Contains(out, "eth0:connected\n")
				})
				lab.Eventually(t, 5*time.Second, "the NIC as before", func() bool { return held(t, "eth0") == before })
				if lost := ping(); lost.Lost > c.lost+lab.MoveLoss {
					t.Errorf("pings: %s", lost)
				} else {
					t.Logf("pings: %s", lost)
				}
			})
		})
	}
}

// The death of the keeper, or of all of qnet's processes, costs the host neither its
// address nor its client.
func TestLeaseSurvivesKeepers(t *testing.T) {
	c := clientCases()["systemd-networkd"]
	lab.Require(t, c.needs...)
	onLAN(t, lab.LANOptions{DHCP: true, Lease: 2 * time.Minute, Renew: 9 * time.Second}, func(t *testing.T, lan *lab.LAN, o Options) {
		address := c.start(t)
		before := held(t, "eth0")
		acks := func() int { return strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+address) }
		ping := lab.PingFrom(t, "outside", address)
		r := mustJoin(t, o, Network{Name: "lan", Mode: profiles.Bridge}, "web", port(1))
		lab.Eventually(t, 5*time.Second, "networkd lets go", func() bool { return networkdHas(t, "eth0", "unmanaged") })
		pid := r.Info().KeeperPID
		unix.Kill(pid, unix.SIGKILL)
		var infos []Info
		var err error
		lab.Eventually(t, 10*time.Second, "another keeper", func() bool {
			infos, err = List(t.Context(), o.RunDir)
			return err == nil && len(infos) == 1 && infos[0].KeeperPID != pid
		})
		first := acks()
		lab.Eventually(t, 20*time.Second, "a renewal by the next keeper", func() bool { return acks() > first })
		killWith(t, r, infos[0].KeeperPID)
		if _, err := Collect(t.Context(), o); err != nil {
			t.Error(err)
		}
		lab.Eventually(t, 10*time.Second, "networkd has it again", func() bool { return !networkdHas(t, "eth0", "unmanaged") })
		lab.Eventually(t, 5*time.Second, "what the host had: "+before, func() bool { return held(t, "eth0") == before })
		if lost := ping(); lost.Lost > lab.MoveLoss {
			t.Errorf("pings: %s", lost)
		}
		// The watchdog may be the one that undoes.
		lab.Eventually(t, 5*time.Second, "networkd's files are gone", func() bool {
			return !exists(managers.LetGo("eth0").Path) && !exists("/run/systemd/network/0-qnet.network")
		})
	})
}

func networkdHas(t *testing.T, link, state string) bool {
	t.Helper()
	out, _ := lab.Try("networkctl --no-legend --no-pager list " + link)
	return strings.HasSuffix(strings.TrimSpace(out), " "+state)
}

// identity lists what the server knows of its clients, without times.
func identity(t *testing.T, lan *lab.LAN) string {
	t.Helper()
	return lab.Sh(t, "cut -d' ' -f2- "+lan.LeaseFile())
}

// Join refuses, before anything has changed, if qnet cannot renew the lease in a deaf
// client's place.
func TestLeaseOfADeadServer(t *testing.T) {
	lab.Require(t, programs.DHCPClientNeeds("udhcpc")...)
	onLAN(t, lab.LANOptions{DHCP: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		programs.DHCPClient(t, "udhcpc")
		lab.Sh(t, `ip netns exec gateway nft -f - <<'EOF'
table inet dead { chain in { type filter hook prerouting priority -300; udp dport 67 drop; }; }
table netdev dead { chain in { type filter hook ingress device "eth0" priority 0; udp dport 67 drop; }; }
EOF`)
		before := lab.Snapshot(t, o.RunDir)
		_, err := Join(t.Context(), o, Network{Name: "lan", Mode: profiles.Bridge}, "web", port(1))
		for _, want := range []string{"udhcpc", "no DHCP server answers", "static address"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
		}
		before.Check(t)
	})
}
