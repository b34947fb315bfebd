package keeper_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/guard"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

// neighborFrame is a neighbor solicitation (135) or advertisement (136) about a target.
func neighborFrame(mac net.HardwareAddr, kind byte, from, target netip.Addr) []byte {
	return etherFrame(mac, 0x86dd, ipv6(from, 58, append([]byte{kind, 0, 0, 0, 0x20, 0, 0, 0}, target.AsSlice()...)...))
}

// datagram6 is a UDP datagram that nobody waits for.
func datagram6(mac net.HardwareAddr, from netip.Addr) []byte {
	return etherFrame(mac, 0x86dd, ipv6(from, 17, 9, 9, 9, 9, 0, 12, 0, 0, 's', 'i', 'x', '!'))
}

// mayUse reports whether the guard of VM bad lets it use the address.
func mayUse(t *testing.T, a netip.Addr) bool {
	t.Helper()
	return strings.Contains(lab.Sh(t, "nft list set netdev qnet_guard_qnbad0 "+guard.OwnSet), nft.IP6Value(a))
}

// hostile6 are frames of a guest on a network with IPv6, before it has asked about an address.
func hostile6(n keeper.Info, from, victim keeper.Port) []attack {
	gateway, none := localOf(bridgeMAC(n)), netip.IPv6Unspecified()
	slaac := ula.EUI64(n.Prefix6, from.MAC)
	private := netip.MustParseAddr("fe80::1234:5678:9abc:def0")
	list := []attack{
		{"own DHCPv6 address", datagram6(from.MAC, from.Address6), ""},
		{"own address by SLAAC", datagram6(from.MAC, slaac), ""},
		{"own link-local address", datagram6(from.MAC, localOf(from.MAC)), ""},
		{"advertisement of its DHCPv6 address", neighborFrame(from.MAC, 136, from.Address6, from.Address6), ""},
		{"question about its DHCPv6 address", neighborFrame(from.MAC, 135, none, from.Address6), ""},
		{"a private address without a question", datagram6(from.MAC, private), guard.ForeignIP6},
		{"advertisement of one", neighborFrame(from.MAC, 136, slaac, private), guard.ForeignTarget},
		{"RA", etherFrame(from.MAC, 0x86dd, ipv6(localOf(from.MAC), 58, 134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0)), guard.Routes},
		{"DHCPv6 server", etherFrame(from.MAC, 0x86dd, ipv6(localOf(from.MAC), 17, 2, 35, 2, 34, 0, 12, 0, 0, 'a', 'd', 'v', '!')), guard.ServesDHCP},
		{"a prefix of its own", datagram6(from.MAC, netip.MustParseAddr("2001:db8::5")), guard.ForeignIP6},
		{"question about one", neighborFrame(from.MAC, 135, none, netip.MustParseAddr("2001:db8::5")), guard.ForeignTarget},
	}
	for name, a := range map[string]netip.Addr{
		"the gateway": n.Gateway6, "the router": gateway, "the victim's DHCPv6 address": victim.Address6,
		"the victim's by SLAAC": ula.EUI64(n.Prefix6, victim.MAC), "the victim's link-local one": localOf(victim.MAC),
		"one that qnet may give": ula.Guest(n.Prefix6, n.Prefix.Addr().Next().Next().Next().Next()),
	} {
		list = append(list,
			attack{name + " as source", datagram6(from.MAC, a), guard.ForeignIP6},
			attack{name + " as target", neighborFrame(from.MAC, 136, slaac, a), guard.ForeignTarget},
			attack{name + " advertised by itself", neighborFrame(from.MAC, 136, a, a), guard.ForeignTarget},
			attack{"question about " + name, neighborFrame(from.MAC, 135, none, a), guard.ForeignTarget})
	}
	return list
}

func bridgeMAC(n keeper.Info) net.HardwareAddr {
	l, err := net.InterfaceByName(n.Bridge)
	if err != nil {
		panic(err)
	}
	return l.HardwareAddr
}

// plainIPv6 runs a test on a network with IPv6, with two VMs on it. br_netfilter would keep
// fragments.
func plainIPv6(t *testing.T, f func(t *testing.T, o Options, bad, victim *keeper.Registration)) {
	plain := func(t *testing.T) { lab.Sh(t, "sysctl -qw net.bridge.bridge-nf-call-ip6tables=0 || true") }
	beside(t, plain, func(t *testing.T, o Options) {
		n := Network{Name: "dev", Mode: profiles.HostOnly, IPv6: true}
		bad, victim := mustJoin(t, o, n, "bad", port(1)), mustJoin(t, o, n, "victim", port(2))
		f(t, o, bad, victim)
		mustLeave(t, bad)
		mustLeave(t, victim)
	})
}

// On a network with IPv6 a guest uses the addresses that qnet gives, and those of its MAC, and
// passes for no other machine.
func TestGuestCannotPassForAnotherOverIPv6(t *testing.T) {
	plainIPv6(t, func(t *testing.T, o Options, bad, victim *keeper.Registration) {
		from, to := bad.Ports()[0], victim.Ports()[0]
		if !from.Address6.IsValid() || from.Address6 != ula.Guest(bad.Info().Prefix6, from.Address) {
			t.Fatalf("%+v", from)
		}
		for _, a := range hostile6(bad.Info(), from, to) {
			tryAttack(t, o, a, from, to)
		}
	})
}

// A guest may use an address that it asked about first, but none that another one has, and the
// oldest of many goes. All that stays so when the keeper dies.
func TestGuestUsesWhatItAskedAbout(t *testing.T) {
	plainIPv6(t, func(t *testing.T, o Options, bad, victim *keeper.Registration) {
		from, to := bad.Ports()[0], victim.Ports()[0]
		prefix := bad.Info().Prefix6
		local := netip.MustParseAddr("fe80::1234:5678:9abc:def0")
		temporary := netip.AddrFrom16([16]byte(slices.Concat(prefix.Addr().AsSlice()[:8], []byte{1, 2, 3, 4, 5, 6, 7, 8})))
		ask := func(p keeper.Port, a netip.Addr) {
			sendFrame(t, p.File, neighborFrame(p.MAC, 135, netip.IPv6Unspecified(), a))
		}
		for _, a := range []netip.Addr{local, temporary} {
			tryAttack(t, o, attack{"the question", neighborFrame(from.MAC, 135, netip.IPv6Unspecified(), a), ""}, from, to)
			lab.Eventually(t, 5*time.Second, "the address is the guest's", func() bool { return mayUse(t, a) })
			tryAttack(t, o, attack{"source " + a.String(), datagram6(from.MAC, a), ""}, from, to)
			tryAttack(t, o, attack{"target " + a.String(), neighborFrame(from.MAC, 136, a, a), ""}, from, to)
		}
		theirs := temporary.Next()
		ask(to, theirs)
		lab.Eventually(t, 5*time.Second, "the address is the victim's", func() bool {
			return strings.Contains(lab.Sh(t, "nft list set netdev qnet_guard_qnvictim0 "+guard.OwnSet), nft.IP6Value(theirs))
		})
		ask(from, theirs) // it may ask, so that the victim answers
		ask(from, bad.Info().Gateway6)
		for i := range guard.MostLearned {
			b := temporary.As16()
			binary.BigEndian.PutUint16(b[14:], uint16(1000+i))
			ask(from, netip.AddrFrom16(b))
			lab.Eventually(t, 10*time.Second, fmt.Sprintf("address %d", i), func() bool { return mayUse(t, netip.AddrFrom16(b)) })
		}
		if mayUse(t, theirs) || mayUse(t, bad.Info().Gateway6) {
			t.Error("it may use another's")
		}
		if mayUse(t, local) || mayUse(t, temporary) || !mayUse(t, from.Address6) || !mayUse(t, localOf(from.MAC)) {
			t.Error("another one than the oldest learned is gone")
		}
		adoptedKeeperKnows(t, o, bad, theirs)
	})
}

// adoptedKeeperKnows kills the keeper. The next one gives nobody the victim's address.
func adoptedKeeperKnows(t *testing.T, o Options, bad *keeper.Registration, theirs netip.Addr) {
	t.Helper()
	if err := unix.Kill(bad.Info().KeeperPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 10*time.Second, "next keeper", func() bool {
		infos, err := List(t.Context(), o.RunDir)
		return err == nil && len(infos) == 1 && infos[0].KeeperPID != bad.Info().KeeperPID && len(infos[0].VMs) == 2
	})
	from, fresh := bad.Ports()[0], theirs.Next()
	lab.Eventually(t, 10*time.Second, "the next keeper learns, also from what a guest uses", func() bool {
		sendFrame(t, from.File, neighborFrame(from.MAC, 135, theirs, from.Address6))
		sendFrame(t, from.File, neighborFrame(from.MAC, 135, fresh, from.Address6))
		return mayUse(t, fresh)
	})
	if mayUse(t, theirs) {
		t.Error("with the next keeper it may use another's")
	}
}
