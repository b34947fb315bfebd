package programs_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/internal/relay"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// Other machines reach both guests that ports lead to, and the guest of nat sees who calls, also
// after the program has read its settings again. The keeper names the command for a relay's port
// that the program keeps them from. `make coexist` tries all programs.
func TestForwardsBeside(t *testing.T) {
	for _, p := range []programs.Program{programs.UFW(), programs.Docker(), programs.Firewalld().Program} {
		t.Run(p.Name, func(t *testing.T) {
			lab.Require(t, append([]lab.Need{lab.Root, lab.Tun, lab.Program("nft"), lab.Program("dnsmasq"), lab.Program("busybox")}, p.Needs...)...)
			lab.Run(t, func(t *testing.T) {
				h := newHost(t)
				p.Start(t)
				h.lead()
				h.lookAtForwards(p, time.Now(), back)
				p.Reload(t)
				h.lookAtForwards(p, time.Now(), back)
				h.unlead()
			})
		})
	}
}

// led is a guest that ports of the host lead to, TCP and UDP.
type led struct {
	column string         // of the page
	n      keeper.Network // of its own
	port   uint16
	sees   string // who a guest sees that another machine's client reaches

	reg   *keeper.Registration
	relay relay.Relay // in place of the supervisor's
}

// guest is the address of the guest.
func (l *led) guest() netip.Addr {
	a := l.n.Subnet.Addr().As4()
	a[3] = 9
	return netip.AddrFrom4(a)
}

// network is the one for which qnet does something to other programs so that clients reach the
// guest: none for a relay, which is a program of the host.
func (l *led) network() string {
	if l.n.Mode == profiles.NAT {
		return l.n.Name
	}
	return "none"
}

// leads are a guest whose ports are done by DNAT, and one whose ports are done by a relay at the
// host's own addresses.
func leads() []*led {
	return []*led{
		{column: "forward by DNAT", n: keeper.Network{Name: "dnat", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.77.0.0/24")}, port: 8090, sees: "192.0.2.1"},
		{column: "forward by relay", n: keeper.Network{Name: "relay", Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("10.78.0.0/24")}, port: 8091, sees: "10.78.0.1"},
	}
}

// opens is a part of the command that the keeper tells for a port that the program keeps other
// machines from, "" where they reach it.
func (l *led) opens(program string) string {
	relayed := l.n.Mode != profiles.NAT
	switch {
	case strings.Contains(program, "nftables.conf") && relayed:
		return "nft insert rule inet filter input tcp dport 8091 accept"
	case strings.Contains(program, "nftables.conf"):
		return "nft insert rule inet filter forward"
	case !relayed:
		return ""
	case strings.Contains(program, "ufw"):
		return "ufw allow 8091/tcp"
	case strings.Contains(program, "firewalld"):
		return "firewall-cmd --add-port=8091/tcp"
	case strings.Contains(program, "iptables-"):
		return "-w 10 -t filter -I INPUT -p tcp --dport 8091 -j ACCEPT"
	}
	return ""
}

// lead has ports of the host lead to guests.
func (h *host) lead() {
	h.Helper()
	for _, l := range leads() {
		var list []keeper.Forward
		for _, proto := range []string{"tcp", "udp"} {
			list = append(list, keeper.Forward{Proto: proto, Port: l.port, Guest: 80})
		}
		var err error
		l.reg, err = keeper.Join(h.Context(), h.o, l.n, "vm-"+l.n.Name, []keeper.PortRequest{{
			MAC: net.HardwareAddr{2, 0, 0, 0, 9, byte(l.port)}, Address: l.guest(), Forwards: list,
		}})
		if err != nil {
			h.Fatal(err)
		}
		for i, f := range list {
			target := func() (netip.AddrPort, time.Duration) { return netip.AddrPortFrom(l.guest(), 80), time.Second }
			if err := l.relay.Add(f, l.reg.Ports()[0].Sockets[i], target); err != nil {
				h.Fatal(err)
			}
		}
		<-l.reg.Settled()
		ns := "to-" + l.n.Name
		lab.Guest(h, ns, "qn-"+l.n.Name, l.guest().String()+"/24", l.n.Subnet.Addr().Next().String())
		tellPeer(h, ns)
		h.led = append(h.led, l)
	}
}

func (h *host) unlead() {
	h.Helper()
	for _, l := range h.led {
		// The test's servers keep the namespace alive.
		lab.Sh(h, "ip link del vto-"+l.n.Name+"; ip netns del to-"+l.n.Name)
		l.relay.Close()
		if err := errors.Join(l.reg.Leave(context.Background()), l.reg.Close()); err != nil {
			h.Errorf("%s: %v", l.n.Name, err)
		}
	}
	h.led = nil
}

// tellPeer has a guest tell each client its address.
func tellPeer(h *host, ns string) {
	h.Helper()
	lab.InNamespace(h, ns, func() error {
		lab.Serve(h, "tcp4", ":80", func(c net.Conn) { fmt.Fprint(c, hostOf(c.RemoteAddr())) })
		u, err := net.ListenPacket("udp4", ":80")
		if err != nil {
			return err
		}
		h.Cleanup(func() { u.Close() })
		go func() {
			for b := make([]byte, 64); ; {
				_, from, err := u.ReadFrom(b)
				if err != nil {
					return
				}
				u.WriteTo([]byte(hostOf(from)), from)
			}
		}()
		return nil
	})
}

func hostOf(a net.Addr) string { return netip.MustParseAddrPort(a.String()).Addr().Unmap().String() }

// answer is what another machine reads at a port of the host, or why it reads nothing.
func (h *host) answer(proto string, port uint16) string {
	const within = 300 * time.Millisecond
	var text string
	lab.InNamespace(h, "inet", func() error {
		d := net.Dialer{Timeout: within}
		c, err := d.DialContext(h.Context(), proto+"4", fmt.Sprintf("192.0.2.10:%d", port))
		if err != nil {
			text = err.Error()
			return nil
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(within))
		if proto == "udp" {
			c.Write([]byte("who am I?"))
		}
		b := make([]byte, 64)
		n, err := c.Read(b)
		if text = string(b[:n]); err != nil {
			text = err.Error()
		}
		return nil
	})
	return text
}

// reached is nil if another machine reaches the guest, and the guest sees who it should.
func (h *host) reached(l *led) error {
	for _, proto := range []string{"tcp", "udp"} {
		if got := h.answer(proto, l.port); got != l.sees {
			return fmt.Errorf("%s from the LAN: got %q, want %q", proto, got, l.sees)
		}
	}
	return nil
}

// lookAtForwards is the result for each guest that ports lead to while both programs run.
func (h *host) lookAtForwards(p programs.Program, began time.Time, limit time.Duration) (cells []cell) {
	h.Helper()
	for _, l := range h.led {
		c := cell{column: l.column, network: l.network(), result: "untouched"}
		if opens := l.opens(p.Name); opens != "" {
			c.result = "told"
			lab.Eventually(h, back, fmt.Sprintf("%s: told %q, as in %s", l.column, opens, h.told()), func() bool { return strings.Contains(h.told(), opens) })
			if h.reached(l) == nil {
				h.Errorf("%s: it works, and the user was told %q", l.column, opens)
			}
			cells = append(cells, c)
			continue
		}
		var err error
		for {
			tried := time.Since(began)
			if err = h.reached(l); err == nil || tried > limit {
				break
			}
		}
		if c.took = time.Since(began); err != nil {
			h.Errorf("%s: after %s: %v\n%s", l.column, c.took, err, h.told())
		}
		if strings.Contains(h.told(), fmt.Sprintf("port %d", l.port)) {
			h.Errorf("%s: told %q", l.column, h.told())
		}
		cells = append(cells, c)
	}
	return cells
}
