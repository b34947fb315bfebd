package keeper_test

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/songgao/water"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/profiles"
)

// dhcpFrame is a client's message as a frame.
func dhcpFrame(client net.HardwareAddr, t dhcpv4.MessageType, more ...dhcpv4.Modifier) []byte {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(client), dhcpv4.WithMessageType(t)}, more...)...)
	if err != nil {
		panic(err)
	}
	return packet.Datagram{
		SrcMAC: client, DstMAC: packet.Broadcast, Src: netip.IPv4Unspecified(), Dst: netip.MustParseAddr("255.255.255.255"),
		SrcPort: 68, DstPort: 67, Payload: m.ToBytes(),
	}.Frame()
}

// tapOn opens a tap that is a port of the bridge, for frames from userspace.
func tapOn(t *testing.T, bridge string) *water.Interface {
	t.Helper()
	tap, err := water.New(water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{Name: "clients0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tap.Close() })
	lab.Sh(t, "sysctl -qw net/ipv6/conf/clients0/disable_ipv6=1; ip link set clients0 master "+bridge+" up")
	return tap
}

// A thousand clients on one tap: all get an address, all different, none lost.
func TestThousandClients(t *testing.T) {
	lab.Require(t, lab.Root) // a large receive buffer (SO_RCVBUFFORCE, socket(7))
	inLab(t, func(t *testing.T, o Options) {
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.77.0.0/20")}, "web", port(1))
		idle := lab.PSS(t, r.Info().KeeperPID)
		tap := tapOn(t, "qn-dev")
		const clients = 1000
		mac := func(i int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)} }
		begin := time.Now()
		go func() {
			for i := range clients {
				if _, err := tap.Write(dhcpFrame(mac(i), dhcpv4.MessageTypeDiscover)); err != nil {
					return
				}
			}
		}()
		got := answerOffers(t, tap, clients)
		took := time.Since(begin)

		seen := map[netip.Addr]string{r.Ports()[0].Address: "web"}
		for client, a := range got {
			if other := seen[a]; other != "" {
				t.Errorf("%s has %s, and so has %s", client, a, other)
			}
			seen[a] = client
		}
		t.Logf("%d leases in %s: %.0f leases/s; the keeper's PSS: %d KiB idle, %d KiB afterwards",
			len(got), took, float64(len(got))/took.Seconds(), idle, lab.PSS(t, r.Info().KeeperPID))
		tap.Close()
		mustLeave(t, r)
	})
}

// answerOffers takes every offer that comes, until each client has its ACK.
func answerOffers(t *testing.T, tap *water.Interface, clients int) map[string]netip.Addr {
	t.Helper()
	got := map[string]netip.Addr{}
	timeout := time.AfterFunc(20*time.Second, func() { tap.Close() })
	defer timeout.Stop()
	b := make([]byte, 2048)
	for len(got) < clients {
		n, err := tap.Read(b)
		if err != nil {
			t.Fatalf("%d of %d clients got an address: %v", len(got), clients, err)
		}
		d, ok := packet.ParseDatagram(b[:n])
		if !ok || d.DstPort != 68 {
			continue
		}
		m, err := dhcpv4.FromBytes(d.Payload)
		if err != nil || !lab.Checksums(b[:n]) {
			t.Fatalf("bad answer: %v", err)
		}
		switch m.MessageType() {
		case dhcpv4.MessageTypeOffer:
			request := dhcpFrame(m.ClientHWAddr, dhcpv4.MessageTypeRequest,
				dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(m.YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(m.ServerIdentifier())))
			if _, err := tap.Write(request); err != nil {
				t.Fatal(err)
			}
		case dhcpv4.MessageTypeAck:
			a, _ := netip.AddrFromSlice(m.YourIPAddr)
			got[m.ClientHWAddr.String()] = a.Unmap()
		}
	}
	return got
}

// guestSends writes a frame to a tap as its guest would: behind a virtio_net_hdr.
func guestSends(t *testing.T, r *Registration, frame []byte) {
	t.Helper()
	if _, err := r.Ports()[0].File.Write(append(make([]byte, 10), frame...)); err != nil {
		t.Fatal(err)
	}
}

// When a guest stops at a stage, the keeper sends that stage to its supervisor.
func TestStages(t *testing.T) {
	client := port(1)[0].MAC
	discover := dhcpFrame(client, dhcpv4.MessageTypeDiscover)
	for _, c := range []struct {
		name   string
		mode   profiles.Mode
		frames func(r *Registration) [][]byte
		want   guestwatch.Stage
	}{
		{"silent", profiles.NAT, func(*Registration) [][]byte { return nil }, guestwatch.Silent},
		{"no DHCP client", profiles.NAT, func(*Registration) [][]byte {
			return [][]byte{append(append(append([]byte{}, packet.Broadcast...), client...), 0x88, 0xb5, 0)}
		}, guestwatch.Frame},
		{"no DHCP server", profiles.Private, func(*Registration) [][]byte { return [][]byte{discover} }, guestwatch.Discover},
		{"offer not taken", profiles.NAT, func(*Registration) [][]byte { return [][]byte{discover} }, guestwatch.Offer},
		{"request to a server that is gone", profiles.NAT, func(r *Registration) [][]byte {
			return [][]byte{dhcpFrame(client, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 9, 9))),
				dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 9, 9, 10))))}
		}, guestwatch.Request},
		{"lease not used", profiles.HostOnly, func(r *Registration) [][]byte {
			return [][]byte{dhcpFrame(client, dhcpv4.MessageTypeRequest, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(r.Ports()[0].Address.AsSlice())))}
		}, guestwatch.ACK},
		{"ARP unanswered", profiles.Private, func(*Registration) [][]byte { return [][]byte{arpRequest(client, "10.1.2.3", "10.1.2.1")} }, guestwatch.ARP},
		{"name server silent", profiles.Private, func(*Registration) [][]byte {
			return [][]byte{packet.Datagram{
				SrcMAC: client, DstMAC: packet.Broadcast, Src: netip.MustParseAddr("10.1.2.3"), Dst: netip.MustParseAddr("10.1.2.1"),
				SrcPort: 5353, DstPort: 53, Payload: []byte("?"),
			}.Frame()}
		}, guestwatch.DNSQuery},
	} {
		t.Run(c.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, o Options) {
				told := make(chan guestwatch.State, 16)
				o.Changed = func(ports []Port) { told <- ports[0].Seen }
				r := mustJoin(t, o, Network{Name: "dev", Mode: c.mode}, "web", port(1))
				for _, f := range c.frames(r) {
					guestSends(t, r, f)
				}
				last := guestwatch.Silent
				for settled := time.After(patience * 700 * time.Millisecond); ; {
					select {
					case s := <-told:
						last = s.Last()
						continue
					case <-settled:
					}
					break
				}
				if last != c.want {
					t.Errorf("stage %s, want %s", last, c.want)
				}
				mustLeave(t, r)
			})
		})
	}
}

func arpRequest(from net.HardwareAddr, sender, target string) []byte {
	b := append(append([]byte{}, packet.Broadcast...), from...)
	b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(append(b, from...), netip.MustParseAddr(sender).AsSlice()...)
	return append(append(b, 0, 0, 0, 0, 0, 0), netip.MustParseAddr(target).AsSlice()...)
}

// Guests get their DNS server although another program serves DNS on all addresses of
// the host.
func TestNamesBesideAWildcardServer(t *testing.T) {
	lab.Require(t, lab.Program("dnsmasq"))
	inLab(t, func(t *testing.T, o Options) {
		foreign := exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=", "--no-resolv", "--no-hosts",
			"--address=/web.qnet/6.6.6.6", "--pid-file=")
		if err := foreign.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			foreign.Process.Kill()
			foreign.Wait()
		}()
		lab.Eventually(t, 5*time.Second, "dnsmasq on port 53", func() bool {
			_, err := lab.Try("grep -q '00000000:0035' /proc/net/tcp")
			return err == nil
		})
		var notes []string
		o.Note = func(n Note) { notes = append(notes, n.String()) }
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		lab.Guest(t, "vm1", "qn-dev", "10.77.0.9/24", "10.77.0.1")
		out := lab.Sh(t, "ip netns exec vm1 busybox nslookup -type=a web.qnet 10.77.0.1")
		if !strings.Contains(out, r.Ports()[0].Address.String()) || strings.Contains(out, "6.6.6.6") {
			t.Errorf("got %s", out)
		}
		if len(notes) != 1 || !strings.Contains(notes[0], "UDP only") || !strings.Contains(notes[0], "dnsmasq") {
			t.Errorf("notes: %q", notes)
		}
		lab.Sh(t, "ip link del vvm1; ip netns del vm1")
		mustLeave(t, r)
	})
}
