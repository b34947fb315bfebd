package keeper_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/songgao/water"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/profiles"
)

// wire makes a namespace a guest behind a VM's tap: its eth0 is the NIC, whose frames pass the
// guard as QEMU's do. The namespace stays down until up is called.
func wire(t *testing.T, ns string, p Port) (up func()) {
	t.Helper()
	lab.Sh(t, "ip netns add "+ns)
	var eth *water.Interface
	lab.InNamespace(t, ns, func() (err error) {
		eth, err = water.New(water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{Name: "eth0"}})
		return err
	})
	if err := unix.SetNonblock(int(p.File.Fd()), false); err != nil {
		t.Fatal(err)
	}
	carry := func(to, from interface {
		Read(b []byte) (int, error)
		Write(b []byte) (int, error)
	}, cut, add int,
	) {
		for b := make([]byte, 65536); ; {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if n > cut {
				to.Write(append(make([]byte, add), b[cut:n]...))
			}
		}
	}
	go carry(p.File, eth, 0, vnetHeader) // until the tap is closed
	go carry(eth, p.File, vnetHeader, 0)
	return func() {
		lab.Sh(t, "ip -n "+ns+" link set eth0 address "+p.MAC.String()+"; ip -n "+ns+" link set lo up; ip -n "+ns+" link set eth0 up")
	}
}

// answers6 are the addresses or the names that a server gives a guest for a name; nil if none.
func answers6(t *testing.T, ns, network, server, name string, kind dnsmessage.Type) (list []string) {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	lab.InNamespace(t, ns, func() error {
		c, err := net.Dial(network, net.JoinHostPort(server, "53"))
		if err != nil {
			return nil
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Second))
		if strings.HasPrefix(network, "tcp") {
			raw = append([]byte{0, byte(len(raw))}, raw...)
		}
		c.Write(raw)
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			return nil
		}
		if b = b[:n]; strings.HasPrefix(network, "tcp") {
			b = b[2:]
		}
		if m.Unpack(b) != nil {
			return nil
		}
		for _, r := range m.Answers {
			switch body := r.Body.(type) {
			case *dnsmessage.AAAAResource:
				list = append(list, netip.AddrFrom16(body.AAAA).String())
			case *dnsmessage.PTRResource:
				list = append(list, body.PTR.String())
			}
		}
		return nil
	})
	return list
}

// nibbles is the reverse name of an address.
func nibbles(a netip.Addr) string {
	const digits = "0123456789abcdef"
	name := "ip6.arpa."
	for _, b := range a.As16() {
		name = string(digits[b&0xf]) + "." + string(digits[b>>4]) + "." + name
	}
	return name
}

// lease6 has a guest take its address by DHCPv6, in one exchange.
func lease6(t *testing.T, ns string, mac net.HardwareAddr) netip.Addr {
	t.Helper()
	var c *packet.Conn
	lab.InNamespace(t, ns, func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			c, err = packet.Listen(link.Index, packet.IPv6, packet.ConfigurationOf(546))
		}
		return err
	})
	defer c.Close()
	m, err := dhcpv6.NewMessage(
		dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}), dhcpv6.WithRapidCommit, dhcpv6.WithIAID([4]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	m.MessageType = dhcpv6.MessageTypeSolicit
	servers := netip.MustParseAddr("ff02::1:2")
	frame := packet.Datagram{
		SrcMAC: mac, DstMAC: packet.MulticastMAC(servers), Src: localOf(mac), Dst: servers, SrcPort: 546, DstPort: 547, Payload: m.ToBytes(),
	}.FrameIPv6()
	var got netip.Addr
	lab.Eventually(t, 10*time.Second, "an answer by DHCPv6", func() bool {
		if err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(time.Second))
		b := make([]byte, 2048)
		n, _, err := c.Read(b)
		if d, ok := packet.ParseDatagramIPv6(b[:n]); err == nil && ok {
			if r, err := dhcpv6.MessageFromBytes(d.Payload); err == nil && r.MessageType == dhcpv6.MessageTypeReply {
				got, _ = netip.AddrFromSlice(r.Options.OneIANA().Options.OneAddress().IPv6Addr)
			}
		}
		return got.IsValid()
	})
	return got
}

// A guest has an address of the network's prefix by itself, and its own by DHCPv6. Its name leads to
// one that it has, also after the clerk's death, and to none before and afterwards.
func TestGuestsHaveIPv6(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		lab.Require(t, lab.Program("ping"))
		n := Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, IPv6: true}
		db := mustJoin(t, o, n, "db", port(2))
		lab.Guest(t, "asks", "qn-dev", "10.77.0.200/24", "10.77.0.1")
		web := mustJoin(t, o, n, "web", port(1))
		up := wire(t, "web", web.Ports()[0])
		prefix, reserved, mac := web.Info().Prefix6, web.Ports()[0].Address6, web.Ports()[0].MAC
		name := func(name string) []string { return answers6(t, "asks", "udp", "10.77.0.1", name, dnsmessage.TypeAAAA) }
		if got := name("web.qnet."); got != nil {
			t.Errorf("before the guest has any: %v", got)
		}
		up()
		own := packet.EUI64(prefix, mac).String()
		lab.Eventually(t, 10*time.Second, "an address that the guest made", func() bool { return slices.Equal(name("web.qnet."), []string{own}) })
		lab.Eventually(t, 10*time.Second, "its sign in the VM's ports", func() bool { return slices.Contains(portsOf(t, o, "web")[0].Seen.IPv6(), packet.EUI64(prefix, mac)) })
		if got := lease6(t, "web", mac); got != reserved {
			t.Errorf("leased %s, want %s", got, reserved)
		}
		if got := name("web.qnet."); !slices.Equal(got, []string{reserved.String()}) {
			t.Errorf("with a lease: %v", got)
		}
		if l := leaseOf(t, o, mac); l.Address6 != reserved || !l.Bound6 || leaseOf(t, o, db.Ports()[0].MAC).Bound6 {
			t.Errorf("lease %+v", l)
		}
		for name, want := range map[string]string{nibbles(reserved): "web.qnet.", nibbles(packet.EUI64(prefix, mac)): "web.qnet.", nibbles(web.Info().Gateway6): "host.qnet."} {
			if got := answers6(t, "asks", "udp", "10.77.0.1", name, dnsmessage.TypePTR); !slices.Equal(got, []string{want}) {
				t.Errorf("%s is %v, want %s", name, got, want)
			}
		}
		for _, network := range []string{"udp", "tcp"} {
			server := web.Info().Gateway6.String()
			lab.Eventually(t, 10*time.Second, "a name server over IPv6 by "+network, func() bool {
				return slices.Equal(answers6(t, "web", network, server, "host.qnet.", dnsmessage.TypeAAAA), []string{server})
			})
		}
		old := clerkOf(t)
		unix.Kill(old, unix.SIGKILL)
		clerkOf(t, old)
		lab.Eventually(t, 10*time.Second, "the address that the guest made, by the next clerk", func() bool { return slices.Equal(name("web.qnet."), []string{own}) })
		mustLeave(t, web)
		if got := name("web.qnet."); got != nil {
			t.Errorf("after its end: %v", got)
		}
		lab.Sh(t, "ip link del vasks; ip netns del asks; ip netns del web")
		mustLeave(t, db)
	})
}

// Promise P15: the name server over IPv6 is for the network's guests. The LAN gets no answer, nor
// with the source of a guest.
func TestLANIsNotServedOverIPv6(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, IPv6: true}, "web", port(1))
		server, prefix := r.Info().Gateway6.String(), r.Info().Prefix6
		lab.Guest(t, "guest", "qn-dev", "", "")
		lab.Sh(t, "ip addr add 2001:db8::10/64 dev eth0 nodad; ip -n inet addr add 2001:db8::1/64 dev lan0 nodad; ip -n inet route add "+prefix.String()+" via 2001:db8::10")
		for _, network := range []string{"udp", "tcp"} {
			lab.Eventually(t, 10*time.Second, "an answer for a guest over "+network, func() bool {
				return answers6(t, "guest", network, server, "host.qnet.", dnsmessage.TypeAAAA) != nil
			})
			for _, at := range []string{server, "2001:db8::10"} {
				if got := answers6(t, "inet", network, at, "host.qnet.", dnsmessage.TypeAAAA); got != nil {
					t.Errorf("the LAN gets an answer of %s over %s: %v", at, network, got)
				}
			}
		}
		lab.Sh(t, "ip -n inet addr add "+prefix.Addr().Next().Next().String()+"/128 dev lo; ip -n inet addr del 2001:db8::1/64 dev lan0; ip -n inet route add 2001:db8::10 dev lan0; ip -n inet route add "+server+" via 2001:db8::10")
		if got := answers6(t, "inet", "udp", server, "host.qnet.", dnsmessage.TypeAAAA); got != nil {
			t.Errorf("a guest's address on the LAN gets an answer: %v", got)
		}
		lab.Sh(t, "ip addr del 2001:db8::10/64 dev eth0; ip link del vguest; ip netns del guest")
		mustLeave(t, r)
	})
}

// A keeper that is killed takes no guest its IPv6: the clerk tells the end of a network only when
// that ends in order.
func TestEndOfIPv6(t *testing.T) {
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet, IPv6: true}, "web", port(1))
		lab.Guest(t, "asks", "qn-dev", "", "")
		address := func() string {
			return lab.Sh(t, "ip -n asks -6 -o addr show dev eth0 scope global -tentative")
		}
		lab.Eventually(t, 10*time.Second, "an address", func() bool { return address() != "" })
		was, clerk := infoOf(t, o).KeeperPID, clerkOf(t)
		unix.Kill(was, unix.SIGKILL)
		clerkOf(t, clerk)
		lab.Eventually(t, 10*time.Second, "the next keeper", func() bool { i, ok := tryInfo(t, o); return ok && i.KeeperPID != was })
		if got := address(); strings.Contains(got, "deprecated") || strings.Contains(got, "preferred_lft 0sec") {
			t.Errorf("after the keeper's death: %s", got)
		}
		mustLeave(t, r)
		lab.Eventually(t, 5*time.Second, "an address that is not to be used any more", func() bool { return strings.Contains(address(), "deprecated") })
		lab.Sh(t, "ip link del vasks; ip netns del asks")
	})
}

// portsOf are a VM's ports as the keeper sees them.
func portsOf(t *testing.T, o Options, vm string) []Port {
	t.Helper()
	for _, v := range listed(t, o).VMs {
		if v.Name == vm {
			return v.Ports
		}
	}
	t.Fatalf("no VM %s", vm)
	return nil
}

// leaseOf is a NIC's lease.
func leaseOf(t *testing.T, o Options, mac net.HardwareAddr) dhcp.Lease {
	t.Helper()
	for _, l := range listed(t, o).Leases {
		if l.MAC == mac.String() {
			return l
		}
	}
	t.Fatalf("no lease of %s", mac)
	return dhcp.Lease{}
}

func listed(t *testing.T, o Options) Info {
	t.Helper()
	infos, err := List(t.Context(), o.RunDir)
	if err != nil || len(infos) != 1 {
		t.Fatal(infos, err)
	}
	return infos[0]
}
