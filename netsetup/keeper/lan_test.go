package keeper_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/keeper/upkeep"
	"github.com/qnet-vm/qnet/profiles"
)

// inLAN is inLab on a LAN.
func inLAN(t *testing.T, o lab.LANOptions, f func(t *testing.T, lan *lab.LAN, o Options)) {
	lab.Require(t, lab.Tun, lab.Program("nft"))
	lab.Run(t, func(t *testing.T) {
		lan := lab.NewLAN(t, o)
		if o.RA {
			lan.AwaitSLAAC("eth0")
		}
		options := labOptions(t)
		before := lab.Snapshot(t, options.RunDir)
		f(t, lan, options)
		before.Check(t)
	})
}

// heard gathers what a keeper sends to a supervisor.
type heard struct {
	mu      sync.Mutex
	notes   []string
	replugs [][]int
}

func (h *heard) options(o Options) Options {
	o.Note = func(n Note) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.notes = append(h.notes, n.String())
	}
	o.Replug = func(nics []int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.replugs = append(h.replugs, nics)
	}
	return o
}

func (h *heard) says(words string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.notes, func(n string) bool { return strings.Contains(n, words) })
}

func (h *heard) replugged() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.replugs)
}

// speaks sends a frame as the VM's guest, an ARP probe.
func speaks(t *testing.T, r *Registration) {
	t.Helper()
	frame := packet.ARPRequest(r.Ports()[0].MAC, netip.Addr{}, netip.MustParseAddr("192.0.2.250"))
	if _, err := unix.Write(int(r.Ports()[0].File.Fd()), append(make([]byte, 10), frame...)); err != nil {
		t.Fatal(err)
	}
}

// lanNetworks are the ways onto a LAN.
var lanNetworks = map[string]Network{
	"macvtap": macvtap,
	"bridge":  {Name: "lan", Mode: profiles.Bridge},
	"joined":  {Name: "lan", Mode: profiles.Bridge, Uplink: "br0"}, // see joinable
}

// joinable puts eth0 into a bridge as an administrator does.
func joinable(t *testing.T) {
	t.Helper()
	mac := strings.TrimSpace(lab.Sh(t, "cat /sys/class/net/eth0/address"))
	lab.Sh(t, "ip link add br0 address "+mac+" type bridge; ip link set br0 addrgenmode none; ip addr flush dev eth0; ip link set eth0 master br0; ip link set br0 up; "+
		"ip addr add "+lab.LANHost+"/24 dev br0; ip route add default via "+lab.LANGateway)
	lab.Eventually(t, 10*time.Second, "the gateway", func() bool { return lab.Pings("", lab.LANGateway) })
}

// unjoin takes the bridge away again.
func unjoin(t *testing.T) {
	t.Helper()
	lab.Sh(t, "ip link del br0; ip addr add "+lab.LANHost+"/24 dev eth0; ip route add default via "+lab.LANGateway)
}

// While VMs are on the LAN, their links follow the uplink's MTU. Each time the cable
// was pulled for a while, the guests see theirs pulled. The keeper tells of a switch that
// takes the host's MAC only, and nothing of a healthy one.
func TestWhileOnTheLAN(t *testing.T) {
	for name, n := range lanNetworks {
		t.Run(name, func(t *testing.T) {
			if n.Macvtap {
				lab.Require(t, lab.Root)
			}
			inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, lan *lab.LAN, o Options) {
				if n.Uplink == "br0" {
					joinable(t)
					defer unjoin(t)
				}
				var h heard
				web := mustJoin(t, h.options(o), n, "web", port(1))
				spoken := time.Now()
				speaks(t, web)
				followsMTU(t, o, n, &h)
				if n.Uplink != "br0" { // the administrator's bridge has the cable
					for round := range rounds(1, 20) {
						lan.Cable("host", false)
						time.Sleep(1500 * time.Millisecond)
						lan.Cable("host", true)
						lab.Eventually(t, 10*time.Second, "the guest is told", func() bool { return h.replugged() == round+1 })
					}
				}
				time.Sleep(time.Until(spoken.Add(offerTimeout + askLimit*arpTimeout + 2*time.Second)))
				const words = "the switch drops frames from new MACs"
				if h.says(words) {
					t.Error("a false alarm")
				}
				lan.PortSecurity(strings.TrimSpace(lab.Sh(t, "cat /sys/class/net/eth0/address")))
				if n.Uplink == "br0" {
					db := mustJoin(t, o, n, "db", port(2))
					defer mustLeave(t, db)
					speaks(t, db)
				} else {
					lan.Cable("host", false)
					time.Sleep(1500 * time.Millisecond)
					lan.Cable("host", true)
				}
				lab.Eventually(t, 40*time.Second, "port security is found", func() bool { return h.says(words) })
				mustLeave(t, web)
			})
		})
	}
}

func followsMTU(t *testing.T, o Options, n Network, h *heard) {
	t.Helper()
	for _, mtu := range []string{"1400", "9000", "1300"} {
		lab.Sh(t, "ip link set eth0 mtu "+mtu)
		lab.Eventually(t, 10*time.Second, "MTU "+mtu, func() bool {
			all := strings.Fields(lab.Sh(t, "cat /sys/class/net/qn*/mtu"))
			return !slices.ContainsFunc(all, func(m string) bool { return m != mtu }) && h.says("and is "+mtu)
		})
	}
	db := mustJoin(t, o, n, "db", port(2)) // it joins later
	lab.Sh(t, "ip link show qndb0 | grep -q 'mtu 1300'")
	mustLeave(t, db)
	lab.Sh(t, "ip link set eth0 mtu 1500")
	lab.Eventually(t, 10*time.Second, "the MTU as before", func() bool { return h.says("was 1300 and is 1500") })
}

// wifi gives the host a second way to the Internet, by another link and with a
// larger metric, as Wi-Fi has.
func wifi(t *testing.T) {
	t.Helper()
	lab.Sh(t, `
ip link add wifi0 type veth peer name eth1 netns gateway
ip -n gateway link set eth1 addrgenmode none up
ip -n gateway addr add 198.51.100.1/24 dev eth1
ip link set wifi0 addrgenmode none up
ip addr add 198.51.100.10/24 dev wifi0
ip route add default via 198.51.100.1 metric 600`)
}

// While the cable is pulled the host goes out by its other link, although the bridge
// stays up. When the cable is back all is as before, time after time, also if the keeper
// dies or the VM ends meanwhile.
func TestPulledCableGivesWay(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		wifi(t)
		before := lab.Snapshot(t, o.RunDir)
		way := func() string { return lab.Sh(t, "ip route get "+lab.LANInternet) }
		pull := func() {
			t.Helper()
			lan.Cable("host", false)
			lab.Eventually(t, yieldTimeout+10*time.Second, "out by the other link", func() bool { return strings.Contains(way(), "dev wifi0") })
			if !lab.Pings("", lab.LANInternet) {
				t.Error("no answer by the other link")
			}
		}
		var h heard
		r := mustJoin(t, h.options(o), lanNetworks["bridge"], "web", port(1))
		routes := lab.Sh(t, "ip route show table all; ip -6 route show table all")
		again := func() bool { return lab.Sh(t, "ip route show table all; ip -6 route show table all") == routes }
		for range rounds(1, 20) {
			pull()
			lan.Cable("host", true)
			lab.Eventually(t, 10*time.Second, "the routes as before", again)
			lab.Eventually(t, 10*time.Second, "an answer by the cable", func() bool { return lab.Pings("", lab.LANInternet) })
		}
		lab.Eventually(t, 5*time.Second, "a word about the cable", func() bool {
			return h.says("the cable of eth0 is pulled: the host's routes by it give way") && h.says("the cable of eth0 is back, and")
		})
		lan.Cable("host", false) // for a moment: the keeper does nothing
		time.Sleep(500 * time.Millisecond)
		lan.Cable("host", true)
		lab.Eventually(t, 10*time.Second, "an answer by the cable", func() bool { return lab.Pings("", lab.LANInternet) && again() })

		pull()
		pid := r.Info().KeeperPID
		unix.Kill(pid, unix.SIGKILL)
		lab.Eventually(t, 15*time.Second, "the next keeper", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			return err == nil && len(infos) == 1 && infos[0].KeeperPID != pid && len(infos[0].VMs[0].Ports) == 1
		})
		lan.Cable("host", true)
		lab.Eventually(t, 10*time.Second, "the routes as before", again)

		pull()
		mustLeave(t, r)
		lan.Cable("host", true)
		before.Check(t)
		lab.Sh(t, "ip link del wifi0")
	})
}

// qnet asks the server again for the lease of a deaf client when the cable is back.
func TestLeaseIsConfirmedAfterReplug(t *testing.T) {
	lab.Require(t, programs.DHCPClientNeeds("udhcpc")...)
	onLAN(t, lab.LANOptions{DHCP: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		address, _ := programs.DHCPClient(t, "udhcpc")
		r := mustJoin(t, o, lanNetworks["bridge"], "web", port(1))
		acks := func() int { return strings.Count(lan.DHCPLog(), "DHCPACK(eth0) "+address) }
		time.Sleep(2 * time.Second)
		before := acks()
		for round := range 2 {
			lan.Cable("host", false)
			time.Sleep(awayTimeout + 200*time.Millisecond)
			lan.Cable("host", true)
			lab.Eventually(t, 10*time.Second, "the lease confirmed", func() bool { return acks() == before+round+1 })
		}
		mustLeave(t, r)
	})
}

// slept returns the clocks of a host that slept as many seconds as the file says.
func slept(file string) func() upkeep.Clock {
	return func() upkeep.Clock {
		c := upkeep.KernelClocks()
		if b, err := os.ReadFile(file); err == nil {
			if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				c.Boot += time.Duration(n) * time.Second
			}
		}
		return c
	}
}

// lost gives the outside host a wrong MAC for the host.
func lost(t *testing.T) {
	t.Helper()
	lab.Sh(t, "ip -n outside neigh replace "+lab.LANHost+" lladdr 02:00:00:00:00:66 dev eth0 nud stale")
}

func found() bool {
	out, err := lab.Try("ip -n outside neigh show " + lab.LANHost)
	return err == nil && !strings.Contains(out, "02:00:00:00:00:66")
}

// After the host slept, the keeper tells the LAN where the host is, and guests ask for
// their lease again.
func TestAfterSleep(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, _ *lab.LAN, o Options) {
		file := filepath.Join(t.TempDir(), "slept")
		o.Exe = []string{"/proc/self/exe", "sleepy", file}
		var h heard
		r := mustJoin(t, h.options(o), lanNetworks["bridge"], "web", port(1))
		lost(t)
		time.Sleep(time.Second)
		if h.replugged() != 0 || found() {
			t.Error("something was done before")
		}
		if err := os.WriteFile(file, []byte("3600"), 0o600); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, lanInterval+10*time.Second, "the LAN and the guest told", func() bool { return h.replugged() == 1 && found() })
		mustLeave(t, r)
	})
}

// When the cable is back and the gateway does not answer, the keeper says that, and
// names STP if it receives a switch's. When the gateway answers, the keeper says that
// too, and tells the LAN where the host is.
func TestGatewayAfterReplug(t *testing.T) {
	inLAN(t, lab.LANOptions{Static: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		var h heard
		r := mustJoin(t, h.options(o), lanNetworks["bridge"], "web", port(1))
		replug := func(while func()) {
			lan.Cable("host", false)
			time.Sleep(awayTimeout + 200*time.Millisecond)
			while()
			lan.Cable("host", true)
		}
		replug(func() { lost(t) })
		lab.Eventually(t, 10*time.Second, "the LAN told", found)
		if h.says("does not answer") {
			t.Errorf("notes: %q", h.notes)
		}
		replug(func() { lan.Cable("gateway", false) })
		lab.Eventually(t, gatewayTimeout+10*time.Second, "the note", func() bool {
			return h.says("the gateway 192.0.2.1 does not answer by eth0: is it another network?")
		})
		lan.Cable("gateway", true)
		lab.Eventually(t, 10*time.Second, "the note that it is back", func() bool { return h.says("the gateway 192.0.2.1 answers by eth0") })
		replug(func() { lab.Sh(t, "ip -n lan link set switch type bridge stp_state 1 forward_delay 400") })
		lab.Eventually(t, gatewayTimeout+10*time.Second, "the reason", func() bool { return h.says("the switch runs STP, and forwards nothing for some 30 s") })
		lab.Eventually(t, 10*time.Second, "the end of it", func() bool { return lab.Pings("", lab.LANGateway) })
		mustLeave(t, r)
	})
}

// has lists the host's addresses and routes by a link, without lifetimes and the link's
// name.
func has(t *testing.T, link string) string {
	t.Helper()
	out := lab.Sh(t, "ip -o addr show dev "+link+" | sed 's/^[0-9]*: //'; ip route show table all dev "+link+"; ip -6 route show table all dev "+link+" | grep -v -e fe80 -e ff00")
	out = regexp.MustCompile(`(valid_lft|preferred_lft|expires) \S+|metric \d+|pref medium`).ReplaceAllString(out, "")
	lines := strings.Split(strings.ReplaceAll(out, link, "LINK"), "\n")
	for i := range lines {
		lines[i] = strings.Join(strings.Fields(lines[i]), " ")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// advertises makes the outside host a router of another prefix.
func advertises(t *testing.T, lan *lab.LAN, lifetimes string) (stop func()) {
	t.Helper()
	return advertisesBy(t, lan, "outside", "eth0", lifetimes)
}

func advertisesBy(t *testing.T, lan *lab.LAN, ns, link, lifetimes string) (stop func()) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "radvd.conf")
	text := "interface " + link + " { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; " + lifetimes + " };\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return lan.Daemon(ns, "radvd", "--nodaemon", "--config", config, "--pidfile", config+".pid", "--logmethod", "stderr")
}

// What routers advertise and what a lease brings while the host is on the bridge has the
// same effect as on the NIC, and is on the NIC afterwards.
func TestAdvertisementsAndLeasesChange(t *testing.T) {
	lab.Require(t, lab.Program("radvd"))
	inLAN(t, lab.LANOptions{Static: true, RA: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		r := mustJoin(t, o, lanNetworks["bridge"], "web", port(1))
		out := lab.Sh(t, "ip netns exec outside sysctl -qw net/ipv6/conf/all/forwarding=1; ip -n outside -6 -o addr show dev eth0 scope link")
		gateway := regexp.MustCompile(`fe80::[^/]*`).FindString(out)
		stop := advertises(t, lan, "AdvDefaultLifetime 600; prefix 2001:db8:3::/64 { AdvValidLifetime 7200; AdvPreferredLifetime 3600; };")
		lab.Eventually(t, 10*time.Second, "the new prefix and router", func() bool {
			got := has(t, "qn-lan")
			return strings.Contains(got, "2001:db8:3:") && strings.Contains(got, "via "+gateway)
		})
		stop()
		stop = advertises(t, lan, "AdvDefaultLifetime 0; prefix 2001:db8:3::/64 { AdvValidLifetime 7200; AdvPreferredLifetime 0; };")
		lab.Eventually(t, 10*time.Second, "the router gone, its prefix deprecated", func() bool {
			old := lab.Sh(t, "ip -6 addr show dev qn-lan deprecated")
			return !strings.Contains(has(t, "qn-lan"), "via "+gateway) && strings.Contains(old, "2001:db8:3:")
		})
		stop()
		// A DHCP client that got another address does this.
		lab.Sh(t, "ip addr del 192.0.2.10/24 dev qn-lan; ip addr add 192.0.2.11/24 dev qn-lan; ip route replace default via 192.0.2.1 dev qn-lan")
		during := has(t, "qn-lan")
		mustLeave(t, r)
		lab.Eventually(t, 10*time.Second, "the same on the NIC", func() bool { return has(t, "eth0") == during })
		lab.Sh(t, "ip addr del 192.0.2.11/24 dev eth0; ip addr add 192.0.2.10/24 dev eth0; ip route replace default via 192.0.2.1 dev eth0")
		lab.Sh(t, "for a in $(ip -6 -o addr show dev eth0 | grep -o '2001:db8:3:[^ ]*'); do ip addr del $a dev eth0; done; ip -6 route del 2001:db8:3::/64 dev eth0 || true")
	})
}

// With two routers by advertisements, the kernel takes the other router when the cable
// is pulled, and goes on with either when it is back.
func TestAdvertisedRouterGivesWay(t *testing.T) {
	lab.Require(t, lab.Program("radvd"))
	inLAN(t, lab.LANOptions{Static: true, RA: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		r := mustJoin(t, o, lanNetworks["bridge"], "web", port(1))
		lab.Sh(t, "ip link add wifi0 type veth peer name eth1 netns gateway; ip -n gateway link set eth1 up; ip -n gateway addr add 2001:db8:4::1/64 dev eth1 nodad; ip link set wifi0 up")
		advertisesBy(t, lan, "gateway", "eth1", "AdvDefaultLifetime 600; prefix 2001:db8:4::/64 { };")
		lab.Eventually(t, 20*time.Second, "two routers", func() bool {
			out := lab.Sh(t, "ip -6 route show default")
			return strings.Count(out, "proto ra") == 2 && strings.Contains(out, "dev wifi0") && strings.Contains(out, "dev qn-lan")
		})
		ping := func() bool { _, err := lab.Try("ping -6 -n -c1 -W1 " + lab.LANInternet6); return err == nil }
		lab.Eventually(t, 10*time.Second, "an answer", ping)
		by := func() string { return lab.Sh(t, "ip -6 route get "+lab.LANInternet6) }
		lan.Cable("host", false)
		lab.Eventually(t, yieldTimeout+10*time.Second, "an answer by the other link", func() bool { return ping() && strings.Contains(by(), "wifi0") })
		lan.Cable("host", true)
		lab.Eventually(t, 10*time.Second, "the router known again", func() bool {
			return !strings.Contains(lab.Sh(t, "ip -6 neigh show dev qn-lan"), "FAILED")
		})
		lab.Eventually(t, 10*time.Second, "an answer", ping)
		mustLeave(t, r)
		lab.Sh(t, "ip link del wifi0")
	})
}

// A NIC without an address of the host's has no gateway to ask for. The keeper asks for
// a DHCP server, in the host's name and the guest's, and not over and over where there is
// none.
func TestPortSecurityWithoutGateway(t *testing.T) {
	inLAN(t, lab.LANOptions{DHCP: true}, func(t *testing.T, lan *lab.LAN, o Options) {
		n := Network{Name: "lan", Mode: profiles.Bridge, Uplink: "eth0"}
		var h heard
		web := mustJoin(t, h.options(o), n, "web", port(1))
		speaks(t, web)
		lab.Eventually(t, offerTimeout+10*time.Second, "an offer to the guest's MAC", func() bool {
			return strings.Contains(lan.DHCPLog(), "DHCPOFFER(eth0)") && strings.Count(lan.DHCPLog(), web.Ports()[0].MAC.String()) > 1
		})
		if h.says("") {
			t.Error("something is noted")
		}
		lan.PortSecurity(strings.TrimSpace(lab.Sh(t, "cat /sys/class/net/eth0/address")))
		db := mustJoin(t, o, n, "db", port(2))
		speaks(t, db)
		lab.Eventually(t, offerTimeout+askLimit*dhcpTimeout+10*time.Second, "the note", func() bool { return h.says("but not VM db") })
		if strings.Contains(lan.DHCPLog(), "DHCPREQUEST") {
			t.Error("a lease was taken")
		}
		mustLeave(t, db)
		mustLeave(t, web)
	})
}
