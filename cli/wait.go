package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/profiles"
)

func (a *app) waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", Usage: "wait until a VM has an address, or say at which stage it is stuck", ArgsUsage: "NAME",
		Description: "Prints the address. Stages: first frame, DISCOVER, OFFER, REQUEST, ACK, ARP, DNS query, DNS answer.\n\nExample: qnet run -d vm.toml && qnet wait --for port:22 vm",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Value: "address", Usage: "wait for `WHAT`: address, ping or port:N"},
			&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "wait for `TIME`, such as 30s or 2m"},
		},
		Action: a.wait,
	}
}

func (a *app) wait(c *cli.Context) error {
	args, err := operands(c, "NAME")
	if err != nil {
		return err
	}
	g, err := parseGoal(c.String("for"))
	if err != nil {
		return err
	}
	address, err := a.await(c.Context, args[0], g, c.Duration("timeout"))
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout, address)
	return nil
}

// goal is what to wait for, beyond an address.
type goal struct {
	ping bool
	port int // 0 = none
}

func parseGoal(s string) (goal, error) {
	switch s {
	case "address":
		return goal{}, nil
	case "ping":
		return goal{ping: true}, nil
	}
	if number, ok := strings.CutPrefix(s, "port:"); ok {
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n < 65536 {
			return goal{port: n}, nil
		}
	}
	return goal{}, &usage{fmt.Sprintf("--for: got %.80q, allowed: address, ping, port:N", s)}
}

func (g goal) String() string {
	switch {
	case g.ping:
		return "an answer to ping"
	case g.port != 0:
		return fmt.Sprintf("port %d", g.port)
	}
	return "an address"
}

func (g goal) reached(ctx context.Context, a netip.Addr) bool {
	switch {
	case g.ping:
		return pings(ctx, a)
	case g.port != 0:
		return dials(ctx, a, g.port)
	}
	return true
}

// pollTime is how often a VM is asked for its state.
const pollTime = 100 * time.Millisecond

// await returns the VM's address once the goal is reached. Its progress goes to
// stderr: the status line on a terminal, else a line for each stage.
func (a *app) await(ctx context.Context, name string, g goal, timeout time.Duration) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told := ""
	defer a.line.Set("")
	defer onInterrupt(func() { a.line.Set("") })()
	for {
		s, _, err := a.find(ctx, name)
		if err != nil {
			return netip.Addr{}, err
		}
		nic, address := firstAddress(s)
		if s.State == control.Running && !hasNetwork(s) {
			return netip.Addr{}, &usage{fmt.Sprintf("wait for %s of VM %q: %s", g, name, unseen)}
		}
		if g != (goal{}) && nic.Mode == profiles.Private {
			return netip.Addr{}, &usage{fmt.Sprintf("wait for %s of VM %q: it is on a private network, which the host cannot reach", g, name)}
		}
		if address.IsValid() && g.reached(ctx, address) {
			return address, nil
		}
		line := fmt.Sprintf("%s: waiting for %s; %s", name, g, progressOf(s, nic, address))
		a.line.Set(line)
		if line != told && !a.line.OnTerminal() {
			a.talk("%s", line)
		}
		told = line
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return netip.Addr{}, ctx.Err()
			}
			return netip.Addr{}, &stuck{s, g, timeout, nic, address}
		case <-time.After(pollTime):
		}
	}
}

// hasNetwork reports whether qnet sees the frames of one of the VM's NICs.
func hasNetwork(s control.State) bool {
	return slices.ContainsFunc(s.NICs, func(n control.NIC) bool { return n.Mode.NeedsNetwork() })
}

func progressOf(s control.State, n control.NIC, address netip.Addr) string {
	switch {
	case s.State != control.Running:
		return "VM " + string(s.State)
	case address.IsValid():
		return "address " + address.String()
	case n.Seen.Last() == guestwatch.Silent:
		return "QEMU running"
	}
	return n.Seen.Last().String()
}

// pings sends one ICMP echo request and waits a second for its reply. It needs
// CAP_NET_RAW or a group of net.ipv4.ping_group_range.
func pings(ctx context.Context, a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	c, to, err := listenICMP(a)
	if err != nil {
		return false
	}
	defer c.Close() //nolint:errcheck // nothing was written that could be lost
	id := os.Getpid() & 0xffff
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte("qnet")}}
	b, err := m.Marshal(nil)
	if err != nil {
		return false
	}
	if _, err := c.WriteTo(b, to); err != nil {
		return false
	}
	deadline, ok := ctx.Deadline()
	if soon := time.Now().Add(time.Second); !ok || soon.Before(deadline) {
		deadline = soon
	}
	c.SetReadDeadline(deadline) //nolint:errcheck // the read fails then
	answer := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(answer)
		if err != nil {
			return false
		}
		reply, err := icmp.ParseMessage(1, answer[:n])
		if err == nil && reply.Type == ipv4.ICMPTypeEchoReply && hostOf(from) == a {
			return true
		}
	}
}

func hostOf(from net.Addr) netip.Addr {
	var ip net.IP
	switch from := from.(type) {
	case *net.UDPAddr:
		ip = from.IP
	case *net.IPAddr:
		ip = from.IP
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func listenICMP(a netip.Addr) (*icmp.PacketConn, net.Addr, error) {
	ip := net.IP(a.AsSlice())
	if c, err := icmp.ListenPacket("udp4", "0.0.0.0"); err == nil {
		return c, &net.UDPAddr{IP: ip}, nil
	}
	c, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	return c, &net.IPAddr{IP: ip}, err
}
