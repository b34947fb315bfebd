package keeper_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

// outside6 is an address of the Internet, by the namespace inet.
const outside6 = "2001:db8:ffff::1"

// advertiser sends router advertisements of a prefix from a link of a namespace, one a second.
type advertiser struct {
	lifetime atomic.Int32 // of the router, in seconds
	pauses   bool         // it was 0 for a time
	quit     chan struct{}
	ended    chan struct{}
	once     sync.Once
}

// advertise begins, and ends with the test.
func advertise(t *testing.T, ns, link, prefix string) *advertiser {
	t.Helper()
	a := &advertiser{quit: make(chan struct{}), ended: make(chan struct{})}
	a.lifetime.Store(1800)
	var socket, index int
	lab.InNamespace(t, ns, func() (err error) {
		if socket, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6); err != nil {
			return err
		}
		ifreq, err := unix.NewIfreq(link)
		if err == nil {
			err = unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, ifreq)
		}
		index = int(ifreq.Uint32())
		return err
	})
	unix.SetsockoptInt(socket, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	to := &unix.SockaddrInet6{Addr: netip.MustParseAddr("ff02::1").As16(), ZoneId: uint32(index)}
	go func() {
		defer close(a.ended)
		defer unix.Close(socket)
		for {
			unix.Sendto(socket, advertisement(uint16(a.lifetime.Load()), netip.MustParsePrefix(prefix)), 0, to)
			select {
			case <-a.quit:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	t.Cleanup(a.stop)
	return a
}

// stop ends the advertisements. It may be called again.
func (a *advertiser) stop() {
	a.once.Do(func() { close(a.quit) })
	<-a.ended
}

// advertisement is one with a prefix for SLAAC (RFC 4861, sections 4.2 and 4.6.2).
func advertisement(lifetime uint16, p netip.Prefix) []byte {
	b := binary.BigEndian.AppendUint16([]byte{134, 0, 0, 0, 64, 0}, lifetime)
	b = append(b, make([]byte, 8)...)
	b = append(b, 3, 4, byte(p.Bits()), 0xc0)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 7200), 3600)
	return append(append(b, 0, 0, 0, 0), p.Addr().AsSlice()...)
}

// hasDefault6 reports whether the host has a default route of IPv6 by an advertisement on eth0.
func hasDefault6() bool {
	found := false
	rtnl.WalkRoutes(unix.AF_INET6, func(r rtnl.Route) {
		found = found || r.Dst().Bits() == 0 && r.Protocol() == unix.RTPROT_RA && r.Table() == unix.RT_TABLE_MAIN
	})
	return found
}

// sampleDefault6 looks every few milliseconds whether the host has its default route, until stop,
// which returns how often it had none.
func sampleDefault6() (stop func() (missing, samples int)) {
	quit, ended := make(chan struct{}), make(chan struct{})
	missing, samples := 0, 0
	go func() {
		defer close(ended)
		for {
			samples++
			if !hasDefault6() {
				missing++
			}
			select {
			case <-quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() (int, int) {
		close(quit)
		<-ended
		return missing, samples
	}
}

// onLAN6 gives the host IPv6 by advertisements on eth0, and a link to another LAN, vpn0.
const onLAN6 = `
ip netns exec inet sysctl -qw net.ipv6.conf.all.forwarding=1
ip -n inet addr add 2001:db8:ffff::1/128 dev lo
ip -n inet link set lan0 addrgenmode eui64; ip -n inet link set lan0 down; ip -n inet link set lan0 up
ip -n inet addr add 2001:db8:2::1/64 dev lan0 nodad
ip -n inet addr add 2001:db8:3::1/64 dev lan0 nodad
ip -n inet addr add 192.0.2.1/24 dev lan0 2>/dev/null || true
ip link set eth0 down; ip link set eth0 addrgenmode eui64; sysctl -qw net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.eth0.accept_dad=0; ip link set eth0 up
ip addr add 192.0.2.10/24 dev eth0 2>/dev/null || true; ip route replace default via 192.0.2.1
ip netns add vpn
ip link add vpn0 type veth peer name far0 netns vpn
ip link set vpn0 addrgenmode none; sysctl -qw net.ipv6.conf.vpn0.accept_ra=0; ip link set vpn0 up
ip -n vpn link set far0 addrgenmode none up
ip addr add 2001:db8:9::1/64 dev vpn0 nodad
ip -n vpn addr add 2001:db8:9::2/64 dev far0 nodad
ip -n vpn -6 route add default via 2001:db8:9::1`

// inIPv6 runs a test on a host that has IPv6 by advertisements, with a kernel that forwards by link,
// as with one that does not, or beside a firewall.
func inIPv6(t *testing.T, ways []string, f func(t *testing.T, o Options, a *advertiser)) {
	lab.Require(t, lab.Tun, lab.Program("nft"))
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			lab.Run(t, func(t *testing.T) {
				lab.Uplink(t)
				lab.Sh(t, onLAN6)
				a := advertise(t, "inet", "lan0", "2001:db8:2::/64")
				o := labOptions(t)
				switch _, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding"); {
				case way == "all links":
					defer failAt(t, o, "the kernel forwards IPv6 by link")()
				case err != nil:
					t.Skip("this kernel has no force_forwarding")
				}
				lab.Eventually(t, 10*time.Second, "the host has IPv6", hasDefault6)
				lab.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-ip6tables=0 || true")
				if way == "beside a firewall" { // as ufw, which opens the LAN, and Docker leave it
					lab.Require(t, lab.Program("ip6tables-nft"))
					lab.Sh(t, "for i in lo eth0 vpn0 up1; do ip6tables-nft -A INPUT -i $i -j ACCEPT; done; ip6tables-nft -P INPUT DROP; ip6tables-nft -P FORWARD DROP")
				}
				before := lab.Snapshot(t, o.RunDir)
				stop := sampleDefault6()
				f(t, o, a)
				if missing, samples := stop(); missing > 0 && !a.pauses {
					t.Errorf("of %d times the host had no default route %d times", samples, missing)
				} else {
					t.Logf("%d samples", samples)
				}
				lab.NoRaces(t, filepath.Dir(o.RunDir))
				before.Check(t)
			})
		})
	}
}

// guest6 makes a namespace that stands for a VM on the network, with an address and a default route
// by the host.
func guest6(t *testing.T, name string, n keeper.Info, suffix string) (address string) {
	t.Helper()
	a := n.Prefix6.Addr().String() + suffix
	lab.Guest(t, name, n.Bridge, "", "")
	lab.Sh(t, fmt.Sprintf("ip -n %s link set eth0 down; ip -n %s link set eth0 addrgenmode eui64; ip netns exec %s sysctl -qw net.ipv6.conf.eth0.accept_ra=0 net.ipv6.conf.eth0.accept_dad=0; ip -n %s link set eth0 up; ip -n %s addr add %s/64 dev eth0 nodad; ip -n %s route add default via %s dev eth0",
		name, name, name, name, name, a, name, ula.LinkLocal(bridgeMAC(n))))
	return a
}

// inJournal reports whether the journal has the text.
func inJournal(t *testing.T, o Options, text string) bool {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(o.RunDir, "networks", "dev", "journal.json"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(b), text)
}

// Guests reach the outside by the host's address, as long as the host does; the host keeps its
// default route whatever begins, ends or dies, and forwards nothing else.
func TestNAT66(t *testing.T) {
	inIPv6(t, []string{"by link", "all links", "beside a firewall"}, func(t *testing.T, o Options, a *advertiser) {
		n := Network{Name: "dev", Mode: profiles.NAT, IPv6: true}
		r := mustJoin(t, o, n, "web", port(1))
		other := mustJoin(t, o, Network{Name: "other", Mode: profiles.NAT, IPv6: true}, "db", port(2))
		info := r.Info()
		mine, theirs := guest6(t, "vm1", info, "9"), guest6(t, "vm2", other.Info(), "9")
		for _, to := range []string{info.Gateway6.String(), "2001:db8:2::1", outside6, "2001:db8:9::2"} {
			pings(t, "vm1", to, "by IPv6")
		}
		pings(t, "vm2", outside6, "from the other network")
		if out := lab.Sh(t, "ip -n vm1 -6 neigh show "+ula.LinkLocal(bridgeMAC(info)).String()); !strings.Contains(out, "router") {
			t.Errorf("the host is no router for the guest: %s", out)
		}
		lab.Sh(t, "ip -n inet -6 route add 2001:db8:9::/64 via $(ip -6 -o addr show dev eth0 scope link | sed 's/.* inet6 \\([^/]*\\).*/\\1/') dev lan0; ip -n inet -6 route add fd00::/8 via $(ip -6 -o addr show dev eth0 scope link | sed 's/.* inet6 \\([^/]*\\).*/\\1/') dev lan0; ip -n vpn -6 route add fd00::/8 via 2001:db8:9::1 2>/dev/null || true")
		refused := func(when string) {
			t.Helper()
			for _, c := range [][2]string{{"inet", "2001:db8:9::2"}, {"vpn", outside6}, {"inet", mine}, {"vpn", mine}, {"vm1", theirs}, {"vm2", mine}} {
				if lab.Pings(c[0], c[1]) {
					t.Errorf("%s: %s reaches %s", when, c[0], c[1])
				}
			}
		}
		refused("while they run")
		if err := unix.Kill(info.KeeperPID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		pings(t, "vm1", outside6, "without a keeper")
		lab.Eventually(t, 10*time.Second, "next keeper", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			return err == nil && len(infos) == 2 && infos[0].KeeperPID != info.KeeperPID && infos[0].KeeperPID != 0
		})
		pings(t, "vm1", outside6, "with the next keeper")
		lab.Sh(t, "ip netns del vm2; ip link del vvm2 2>/dev/null || true")
		mustLeave(t, other)
		pings(t, "vm1", outside6, "when the other network is gone")
		if lab.Pings("inet", "2001:db8:9::2") {
			t.Error("the host forwards for others when the other network is gone")
		}
		lab.Sh(t, "ip netns del vm1; ip link del vvm1 2>/dev/null || true")
		mustLeave(t, r)
	})
}

// The keeper tells guests when the host's default route goes and comes, and follows a new prefix
// and a new uplink.
func TestRouterOfGuests(t *testing.T) {
	inIPv6(t, []string{"by link", "all links"}, func(t *testing.T, o Options, a *advertiser) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, IPv6: true}, "web", port(1))
		info := r.Info()
		guest6(t, "vm1", info, "9")
		is := func(on bool, when string) {
			t.Helper()
			lab.Eventually(t, 10*time.Second, when, func() bool { return inJournal(t, o, `"outward6":true`) == on })
		}
		is(true, "a router at the start")
		a.lifetime.Store(0)
		is(false, "no router when the host's router is gone")
		a.lifetime.Store(1800)
		is(true, "a router again")
		// Another prefix in place of the first.
		b := advertise(t, "inet", "lan0", "2001:db8:3::/64")
		b.lifetime.Store(1800)
		a.lifetime.Store(0)
		lab.Sh(t, "ip -6 addr flush dev eth0 scope global dynamic")
		pings(t, "vm1", outside6, "with another prefix of the host's")
		// Another uplink in place of the first.
		lab.Sh(t, `
ip netns add isp
ip -n isp link set lo up
ip link add up1 type veth peer name isp0 netns isp
ip link set up1 addrgenmode none; sysctl -qw net.ipv6.conf.up1.accept_ra=0; ip link set up1 up
ip -n isp link set isp0 addrgenmode none up
ip -n isp addr add 2001:db8:7::1/64 dev isp0 nodad
ip -n isp addr add 2001:db8:aaaa::1/128 dev lo
ip addr add 2001:db8:7::2/64 dev up1 nodad
ip -6 route add default via 2001:db8:7::1 metric 10`)
		pings(t, "vm1", "2001:db8:aaaa::1", "by the uplink that came")
		is(true, "a router by the uplink that came")
		lab.Sh(t, "ip netns del vm1; ip link del vvm1 2>/dev/null || true; ip -6 route del default via 2001:db8:7::1 metric 10; ip link del up1")
		is(false, "no router without an uplink")
		mustLeave(t, r)
		b.stop()
		lab.Sh(t, "for a in $(ip -6 -o addr show dev eth0 | grep -o '2001:db8:3:[^ ]*'); do ip addr del $a dev eth0; done; ip -6 route del 2001:db8:3::/64 dev eth0")
		a.lifetime.Store(1800)
		lab.Eventually(t, 10*time.Second, "the host has its route again", hasDefault6)
		a.pauses = true
	})
}

// static6 gives the host of lab.Uplink an address and a default route of IPv6.
const static6 = `
ip -n inet addr add 2001:db8:2::1/64 dev lan0 nodad
ip -n inet addr add 2001:db8:ffff::1/128 dev lo
ip addr add 2001:db8:2::10/64 dev eth0 nodad
ip -6 route add default via 2001:db8:2::1`

// Beside ufw, which drops IPv6 to the host and through it, guests reach both.
func TestUFWIPv6(t *testing.T) {
	ufw := programs.UFW()
	lab.Require(t, append(ufw.Needs, lab.Tun)...)
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		lab.Sh(t, static6)
		o := labOptions(t)
		ufw.Start(t)
		before := lab.Snapshot(t, o.RunDir)
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, IPv6: true}, "web", port(1))
		guest6(t, "vm1", r.Info(), "9")
		pings(t, "vm1", r.Info().Gateway6.String(), "beside ufw")
		pings(t, "vm1", outside6, "beside ufw")
		lab.Sh(t, "ip netns del vm1; ip link del vvm1 2>/dev/null || true")
		mustLeave(t, r)
		before.Check(t)
	})
}

// Beside firewalld guests reach the same of the host over IPv6 as over IPv4, DNS and ping of the
// gateway, and the outside; also after firewalld has reloaded.
func TestFirewalldIPv6(t *testing.T) {
	besideFirewalld(t, func(t *testing.T, o Options, fw *programs.FirewalldProgram) {
		lab.Sh(t, static6)
		l, err := net.Listen("tcp", "[::]:7654")
		if err != nil {
			t.Fatal(err)
		}
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, IPv6: true}, "web", port(1))
		info := r.Info()
		guest6(t, "vm1", info, "9")
		for _, when := range []string{"at the start", "after a reload"} {
			pings(t, "vm1", info.Gateway6.String(), when)
			pings(t, "vm1", outside6, when)
			pings(t, "", info.Prefix6.Addr().String()+"9", when)
			lab.Eventually(t, 10*time.Second, "names "+when, func() bool {
				_, err := lab.Try("timeout 2 ip netns exec vm1 busybox nslookup -type=aaaa host.qnet " + info.Gateway6.String())
				return err == nil
			})
			for _, to := range []string{info.Gateway6.String(), ula.LinkLocal(bridgeMAC(info)).String() + "%eth0"} {
				if _, err := lab.Try("timeout 2 ip netns exec vm1 busybox nc -w 1 " + to + " 7654 < /dev/null"); err == nil {
					t.Errorf("%s: the guest reaches another port at %s", when, to)
				}
			}
			fw.Reload(t)
		}
		lab.Sh(t, "ip netns del vm1; ip link del vvm1 2>/dev/null || true")
		mustLeave(t, r)
		l.Close()
		lab.Sh(t, "ip -6 route del default via 2001:db8:2::1; ip addr del 2001:db8:2::10/64 dev eth0")
	})
}

// VMs of a network agree about its IPv6, and each address is one VM's. Another network that has
// the prefix is in the way of one that pins it.
func TestIPv6Refusals(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.HostOnly, Subnet: subnet, IPv6: true, Subnet6: netip.MustParsePrefix("fd12:3456:789a:1::/64")}
		r := mustJoin(t, o, n, "web", port(1))
		defer mustLeave(t, r)
		if info := r.Info(); info.Prefix6 != n.Subnet6 || info.Gateway6 != ula.Gateway(n.Subnet6) {
			t.Errorf("%+v", info)
		}
		ask := func(change func(n *Network, p *PortRequest)) error {
			other, ports := n, port(2)
			change(&other, &ports[0])
			j, err := Join(t.Context(), o, other, "db", ports)
			if err == nil {
				mustLeave(t, j)
			}
			return err
		}
		for want, change := range map[string]func(n *Network, p *PortRequest){
			`without ipv6, VMs [web] run it with`:                                             func(n *Network, _ *PortRequest) { n.IPv6, n.Subnet6 = false, netip.Prefix{} },
			`with subnet6 fd12:3456:789a:2::/64, VMs [web] run it with fd12:3456:789a:1::/64`: func(n *Network, _ *PortRequest) { n.Subnet6 = netip.MustParsePrefix("fd12:3456:789a:2::/64") },
			`which VM "web" has`: func(_ *Network, p *PortRequest) { p.Address6 = r.Ports()[0].Address6 },
			`which is no guest address of fd12:3456:789a:1::/64 (gateway`: func(_ *Network, p *PortRequest) { p.Address6 = n.Subnet6.Addr().Next() },
			`subnet6 fd12:3456:789a:1::/64 overlaps the host's address`:   func(n *Network, _ *PortRequest) { n.Name, n.Subnet = "lab", netip.Prefix{} },
			`but network "lab" has no IPv6`: func(n *Network, p *PortRequest) {
				n.Name, n.Subnet, n.IPv6, n.Subnet6, p.Address6 = "lab", netip.Prefix{}, false, netip.Prefix{}, netip.MustParseAddr("fd12::9")
			},
		} {
			if err := ask(change); !errors.Is(err, host.ErrRefused) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		mine := netip.MustParseAddr("fd12:3456:789a:1::10")
		if err := ask(func(_ *Network, p *PortRequest) { p.Address6 = mine }); err != nil {
			t.Error(err)
		}
	})
}
