package programs_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/programs"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// Forwards beside the real programs: other machines reach a guest of nat, which sees them, also
// after the program has read its settings again. The keeper names the command for a relay's port
// that the program keeps them from.
func TestForwardsBeside(t *testing.T) {
	firewalld := programs.Firewalld()
	for _, c := range []struct {
		p     programs.Program
		opens string // the command for a relay's port
	}{
		{programs.UFW(), "ufw allow 8091/tcp"},
		{programs.Docker(), ""},
		{programs.Together(programs.UFW(), programs.Docker()), "ufw allow 8091/tcp"},
		{firewalld.Program, "firewall-cmd --add-port=8091/tcp"},
	} {
		t.Run(c.p.Name, func(t *testing.T) {
			lab.Require(t, slices.Concat([]lab.Need{lab.Root, lab.Tun, lab.Program("nft"), lab.Program("dnsmasq"), lab.Program("busybox")}, c.p.Needs)...)
			lab.Run(t, func(t *testing.T) {
				h := newHost(t)
				c.p.Start(t)
				nat := h.forward(keeper.Network{Name: "nat", Mode: profiles.NAT, Subnet: netip.MustParsePrefix("10.77.0.0/24")}, 8090)
				apart := h.forward(keeper.Network{Name: "apart", Mode: profiles.HostOnly, Subnet: netip.MustParsePrefix("10.78.0.0/24")}, 8091)
				lab.Guest(t, "guest", "qn-nat", "10.77.0.9/24", "10.77.0.1")
				tellPeer(t, "guest")
				if got := fromLAN(8090); got != "192.0.2.1" {
					t.Errorf("the guest sees %q", got)
				}
				c.p.Reload(t)
				lab.Eventually(t, back, "the guest, after a reload", func() bool { return fromLAN(8090) == "192.0.2.1" })
				if said := h.told(); c.opens != "" && !strings.Contains(said, c.opens) || c.opens == "" && strings.Contains(said, "port 8091") {
					t.Errorf("said %q, want %q", said, c.opens)
				}
				lab.Sh(t, "ip netns del guest")
				for _, r := range []*keeper.Registration{nat, apart} {
					if err := r.Leave(t.Context()); err != nil {
						t.Error(err)
					}
					r.Close()
				}
			})
		})
	}
}

// forward joins with a forward at all addresses to the guest's port 80.
func (h *host) forward(n keeper.Network, port uint16) *keeper.Registration {
	h.Helper()
	address := n.Subnet.Addr()
	for range 9 {
		address = address.Next()
	}
	r, err := keeper.Join(h.Context(), h.o, n, "vm-"+n.Name, []keeper.PortRequest{{
		MAC: net.HardwareAddr{2, 0, 0, 0, 9, byte(port)}, Address: address, Forwards: []keeper.Forward{{Proto: "tcp", Port: port, Guest: 80}},
	}})
	if err != nil {
		h.Fatal(err)
	}
	return r
}

// tellPeer has a guest tell each client its address.
func tellPeer(t *testing.T, ns string) {
	t.Helper()
	lab.InNamespace(t, ns, func() error {
		lab.Serve(t, "tcp4", ":80", func(c net.Conn) {
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprint(c, host)
		})
		return nil
	})
}

// fromLAN is what another machine reads at a port of the host.
func fromLAN(port int) string {
	out, _ := lab.Try(fmt.Sprintf("timeout 2 ip netns exec inet busybox nc -w 1 192.0.2.10 %d </dev/null", port))
	return strings.TrimSpace(out)
}
