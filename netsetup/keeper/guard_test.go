package keeper_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/guard"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// vnetHeader is the length of the header that IFF_VNET_HDR puts before each frame of a tap.
const vnetHeader = 10

// sendFrame sends a frame as a guest would.
func sendFrame(t *testing.T, tap *os.File, frame []byte) {
	t.Helper()
	frame = append(frame, make([]byte, max(0, 60-len(frame)))...)
	if _, err := unix.Write(int(tap.Fd()), append(make([]byte, vnetHeader), frame...)); err != nil {
		t.Fatal(err)
	}
}

// arrives reports whether a guest gets a frame that holds these bytes. It waits for a frame
// that the sender, by its own MAC, sends afterwards.
func arrives(t *testing.T, to *os.File, content []byte, after func(n byte) []byte) bool {
	t.Helper()
	number++
	end := after(number)
	seen := false
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		poll := []unix.PollFd{{Fd: int32(to.Fd()), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 1000); n == 0 || err != nil {
			continue
		}
		b := make([]byte, 4096)
		n, err := unix.Read(int(to.Fd()), b)
		if err != nil {
			continue
		}
		seen = seen || bytes.Contains(b[:n], content)
		if bytes.Contains(b[:n], end) {
			return seen
		}
	}
	t.Fatal("the frame that ends the wait did not arrive")
	return false
}

var number byte // of the frame that ends a wait

var everyone = packet.Broadcast

func etherFrame(from net.HardwareAddr, protocol uint16, body ...[]byte) []byte {
	return slices.Concat(append([][]byte{everyone, from, binary.BigEndian.AppendUint16(nil, protocol)}, body...)...)
}

func ipv6(from netip.Addr, next byte, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(body)))
	b = append(append(b, next, 255), from.AsSlice()...)
	return slices.Concat(b, netip.MustParseAddr("ff02::1").AsSlice(), body)
}

func datagram(mac net.HardwareAddr, src netip.Addr, sport uint16, dst netip.Addr, dport uint16, text string) []byte {
	return packet.Datagram{SrcMAC: mac, DstMAC: everyone, Src: src, Dst: dst, SrcPort: sport, DstPort: dport, Payload: []byte(text)}.Frame()
}

func localOf(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// attack is a frame that a guest sends, and what its guard counts it as, "" if it passes.
type attack struct {
	name   string
	frame  []byte
	reason string
}

// hostile are frames of a guest that has a MAC and an address. victim is another guest's.
func hostile(mac net.HardwareAddr, own, victim netip.Addr, victimMAC net.HardwareAddr) []attack {
	arp := packet.GratuitousARP(mac, victim)[14:]
	vlan := []byte{0, 0, 8, 6}
	advert := []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	six, victimSix := localOf(mac), localOf(victimMAC)
	offer := func(to uint16) []byte {
		return datagram(mac, own, 67, netip.AddrFrom4([4]byte{255, 255, 255, 255}), to, "an offer of an address")
	}
	na := func(target netip.Addr) []byte {
		return append(append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice()...), append([]byte{2, 1}, mac...)...)
	}
	ns := func(target netip.Addr) []byte { return append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...) }
	fragment := func(next byte, offset uint16, more byte) []byte {
		return []byte{next, 0, byte(offset >> 5), byte(offset<<3) | more, 1, 2, 3, 4}
	}
	options := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	list := []attack{
		{"foreign MAC", etherFrame(victimMAC, 0x0806, packet.GratuitousARP(victimMAC, victim)[14:]), guard.ForeignMAC},
		{"ARP", etherFrame(mac, 0x0806, arp), guard.ForeignARP},
		{"ARP with a foreign hardware address", etherFrame(mac, 0x0806, packet.GratuitousARP(victimMAC, own)[14:]), guard.ForeignARP},
		{"ARP in VLAN 0", etherFrame(mac, 0x8100, vlan, arp), guard.OtherProtocol},
		{"ARP in VLAN 0 twice", etherFrame(mac, 0x8100, []byte{0, 0, 0x81, 0}, vlan, arp), guard.OtherProtocol},
		{"ARP in 802.1ad", etherFrame(mac, 0x88a8, vlan, arp), guard.OtherProtocol},
		{"ARP in SNAP", etherFrame(mac, 36, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 6}, arp), guard.OtherProtocol},
		{"IPv4 source", datagram(mac, victim, 9, victim, 9, "a foreign source"), guard.ForeignIP},
		{"DHCP server", offer(68), guard.ServesDHCP},
		{"RA", etherFrame(mac, 0x86dd, ipv6(six, 58, advert...)), guard.Routes},
		{"RA behind destination options", etherFrame(mac, 0x86dd, ipv6(six, 60, append(options(58), advert...)...)), guard.Routes},
		{"RA behind hop-by-hop options", etherFrame(mac, 0x86dd, ipv6(six, 0, append(options(58), advert...)...)), guard.Routes},
		{"RA as an atomic fragment", etherFrame(mac, 0x86dd, ipv6(six, 44, append(fragment(58, 0, 0), advert...)...)), guard.Routes},
		{"RA as a first fragment", etherFrame(mac, 0x86dd, ipv6(six, 44, append(fragment(58, 0, 1), advert...)...)), guard.Routes},
		{"first fragment of options alone", etherFrame(mac, 0x86dd, ipv6(six, 44, append(fragment(60, 0, 1), options(58)...)...)), guard.ForeignIP6},
		{"redirect", etherFrame(mac, 0x86dd, ipv6(six, 58, append([]byte{137}, make([]byte, 39)...)...)), guard.Routes},
		{"DHCPv6 server", etherFrame(mac, 0x86dd, ipv6(six, 17, 2, 35, 2, 34, 0, 12, 0, 0, 'a', 'd', 'v', '!')), guard.ServesDHCP},
		{"IPv6 source", etherFrame(mac, 0x86dd, ipv6(victimSix, 17, 9, 9, 9, 9, 0, 12, 0, 0, 's', 'i', 'x', '!')), guard.ForeignIP6},
		{"advertisement of a foreign address", etherFrame(mac, 0x86dd, ipv6(six, 58, na(victimSix)...)), guard.ForeignTarget},
		{"claim of a foreign address", etherFrame(mac, 0x86dd, ipv6(netip.IPv6Unspecified(), 58, ns(victimSix)...)), guard.ForeignTarget},

		{"own ARP", packet.GratuitousARP(mac, own), ""},
		{"ARP probe", packet.ARPRequest(mac, netip.IPv4Unspecified(), own), ""},
		{"own IPv4", datagram(mac, own, 9, victim, 9, "my own source"), ""},
		{"DHCP client", datagram(mac, netip.IPv4Unspecified(), 68, netip.AddrFrom4([4]byte{255, 255, 255, 255}), 67, "discover"), ""},
		{"own IPv6", etherFrame(mac, 0x86dd, ipv6(six, 17, 9, 9, 9, 9, 0, 12, 0, 0, 'm', 'i', 'n', 'e')), ""},
		{"later fragment", etherFrame(mac, 0x86dd, ipv6(six, 44, append(fragment(58, 8, 0), "the rest of a ping"...)...)), ""},
		{"own advertisement", etherFrame(mac, 0x86dd, ipv6(six, 58, na(six)...)), ""},
		{"own claim", etherFrame(mac, 0x86dd, ipv6(netip.IPv6Unspecified(), 58, ns(six)...)), ""},
		{"search for a router", etherFrame(mac, 0x86dd, ipv6(netip.IPv6Unspecified(), 58, 133, 0, 0, 0, 0, 0, 0, 0)), ""},
		{"RARP of QEMU", etherFrame(mac, 0x8035, []byte{0, 1, 8, 0, 6, 4, 0, 3}, mac, []byte{0, 0, 0, 0}, mac, []byte{0, 0, 0, 0}), ""},
	}
	return list
}

// droppedOf is what the guard of a VM's first NIC has dropped, by reason.
func droppedOf(t *testing.T, o Options, vm string) map[string]uint64 {
	t.Helper()
	infos, err := List(t.Context(), o.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, n := range infos {
		for _, v := range n.VMs {
			for _, d := range v.Ports[0].Dropped {
				if v.Name == vm {
					counts[d.Of] += d.Packets
				}
			}
		}
	}
	return counts
}

// Promise P6: a guest can neither pass for another one nor for the network's router or DHCP
// server, and the frames by which it tries are counted by their reasons.
func TestGuestCannotPassForAnother(t *testing.T) {
	for _, mode := range []profiles.Mode{profiles.HostOnly, profiles.NAT} {
		t.Run(string(mode), func(t *testing.T) {
			// br_netfilter would keep a fragment until the others come.
			plain := func(t *testing.T) { lab.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-ip6tables=0 || true") }
			beside(t, plain, func(t *testing.T, o Options) {
				n := Network{Name: "dev", Mode: mode}
				bad, victim := mustJoin(t, o, n, "bad", port(1)), mustJoin(t, o, n, "victim", port(2))
				defer mustLeave(t, bad)
				defer mustLeave(t, victim)
				from, to := bad.Ports()[0], victim.Ports()[0]
				sendFrame(t, to.File, packet.GratuitousARP(to.MAC, to.Address))
				for _, a := range hostile(from.MAC, from.Address, to.Address, to.MAC) {
					tryAttack(t, o, a, from, to)
				}
				fdb := lab.Sh(t, "bridge fdb show br qn-dev")
				if !strings.Contains(fdb, to.MAC.String()+" dev qnvictim0") || strings.Contains(fdb, to.MAC.String()+" dev qnbad0") {
					t.Errorf("the victim's MAC moved:\n%s", fdb)
				}
			})
		})
	}
}

// tryAttack sends one frame, and compares what arrives and what the guard counts.
func tryAttack(t *testing.T, o Options, a attack, from, to keeper.Port) {
	t.Helper()
	before := droppedOf(t, o, "bad")
	sendFrame(t, from.File, a.frame)
	got := arrives(t, to.File, a.frame[12:], func(n byte) []byte {
		end := etherFrame(from.MAC, 0x8035, fmt.Appendf(nil, "the end of wait number %d", n))
		sendFrame(t, from.File, end)
		return end
	})
	if got != (a.reason == "") {
		t.Errorf("%s: arrives %t", a.name, got)
	}
	now := droppedOf(t, o, "bad")
	if a.reason != "" {
		before[a.reason]++
	}
	if fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("%s: counted %v, want %v", a.name, now, before)
	}
}

// A flood of made-up MACs leaves no trace in the bridge.
func TestFloodOfMACsIsNotLearned(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		bad := mustJoin(t, o, Network{Name: "dev", Mode: profiles.Private}, "bad", port(1))
		defer mustLeave(t, bad)
		for i := range 5000 {
			sendFrame(t, bad.Ports()[0].File, etherFrame(net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}, 0x0800))
		}
		if n := strings.Count(lab.Sh(t, "bridge fdb show br qn-dev"), "\n"); n > 16 {
			t.Errorf("the bridge has %d addresses", n)
		}
		if got := droppedOf(t, o, "bad")[guard.ForeignMAC]; got != 5000 {
			t.Errorf("counted %d", got)
		}
	})
}

// On a private network and on a LAN qnet gives no addresses: a guest may use any, with its
// own MAC, but is no router and no DHCP server.
func TestGuardWithoutAddresses(t *testing.T) {
	lab.Require(t, lab.Tun, lab.Program("nft"))
	for _, n := range []Network{{Name: "dev", Mode: profiles.Private}, {Name: "dev", Mode: profiles.Bridge, Uplink: "br0"}, {Name: "dev", Mode: profiles.Bridge, Uplink: "eth0", Macvtap: true}} {
		t.Run(fmt.Sprintf("%s, macvtap %t", n.Mode, n.Macvtap), func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				lab.Sh(t, "ip link add br0 type bridge; ip link set br0 up")
				bad, victim := mustJoin(t, o, n, "bad", port(1)), mustJoin(t, o, n, "victim", port(2))
				from, to := bad.Ports()[0], victim.Ports()[0]
				own, another := netip.MustParseAddr("10.9.9.1"), netip.MustParseAddr("10.9.9.2")
				free := []string{"ARP", "IPv4 source", "IPv6 source", "advertisement of a foreign address", "claim of a foreign address"}
				for _, a := range hostile(from.MAC, own, another, to.MAC) {
					switch {
					case slices.Contains(free, a.name):
						a.reason = ""
					case a.name == "first fragment of options alone":
						a.reason = guard.HidesHeader
					case n.Macvtap && a.reason == guard.OtherProtocol, n.Mode == profiles.Bridge && a.name == "ARP in VLAN 0 twice", n.Mode == profiles.Bridge && a.name == "ARP in SNAP":
						a.reason = guard.HiddenProtocol
					case n.Mode == profiles.Bridge && a.reason == guard.OtherProtocol:
						a.reason = "" // a VLAN of the LAN's, with its own MAC
					}
					tryAttack(t, o, a, from, to)
				}
				mustLeave(t, bad)
				mustLeave(t, victim)
				lab.Sh(t, "ip link del br0")
			})
		})
	}
}

// With guard = "off" a guest sends what it likes.
func TestGuestWithoutGuard(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.Private}
		ports := port(1)
		ports[0].Unguarded = true
		router, victim := mustJoin(t, o, n, "bad", ports), mustJoin(t, o, n, "victim", port(2))
		defer mustLeave(t, router)
		defer mustLeave(t, victim)
		from, to := router.Ports()[0], victim.Ports()[0]
		for _, a := range hostile(from.MAC, netip.MustParseAddr("10.9.9.1"), netip.MustParseAddr("10.9.9.2"), net.HardwareAddr{2, 0, 0, 0, 0, 9}) {
			a.reason = ""
			tryAttack(t, o, a, from, to)
		}
		if infos, err := List(t.Context(), o.RunDir); err != nil || !infos[0].VMs[0].Ports[0].Unguarded {
			t.Errorf("got %+v, %v", infos, err)
		}
	})
}

// The guard stays when another program flushes all rules, is there again when it deletes the
// table, and outlives the keeper.
func TestGuardIsMended(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT}, "bad", port(1))
		guarded := func() bool {
			_, err := lab.Try("nft list chain netdev qnet_guard_qnbad0 from_guest | grep -q 'another source MAC'")
			return err == nil
		}
		lab.Sh(t, "nft flush ruleset")
		lab.Eventually(t, 5*time.Second, "guard after a flush", guarded)
		if err := unix.Kill(r.Info().KeeperPID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if !guarded() {
			t.Error("no guard behind the dead keeper")
		}
		lab.Eventually(t, 10*time.Second, "next keeper", func() bool {
			infos, err := List(t.Context(), o.RunDir)
			return errors.Is(err, nil) && len(infos) == 1 && infos[0].KeeperPID != r.Info().KeeperPID && len(infos[0].VMs) == 1
		})
		if !guarded() {
			t.Error("no guard with the next keeper")
		}
		mustLeave(t, r)
	})
}
