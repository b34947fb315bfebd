package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// Ports of the host, each of which leads to wire in the guest.
const (
	relayedPort = "127.0.0.1:5101" // by qnet
	hostfwdPort = "127.0.0.1:5102" // by QEMU's user network
	dockerPort  = "127.0.0.1:5103" // by docker-proxy
	passtPort   = "127.0.0.1:5104" // by passt

	passtGateway = "10.99.0.1"
	lanPort      = "192.0.2.10:5105" // by qnet
	lanDocker    = "192.0.2.10:5106" // by docker-proxy
)

// forwards measures ports of the host that lead to a guest. All contenders lead to the same one.
func (b *bench) forwards() error {
	socket, passt, noPasst := b.startPasst("--tcp-ports", strings.Replace(passtPort, ":", "/", 1)+wirePort,
		"--address", "10.99.0.2", "--netmask", "24", "--gateway", passtGateway) // not the LAN's, by which the guest would answer that
	if noPasst == nil {
		defer passt.Stop()
	}
	guests, err := rig.Boot(b.QnetVM, forwardedGuest(socket))
	if err != nil {
		return err
	}
	defer rig.KillAll(guests)
	address, err := guests[0].Guest.Run("ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'; wire serve 0.0.0.0" + wirePort + " > /dev/null 2>&1 &")
	if err != nil {
		return err
	}
	address = strings.TrimSpace(address)
	if err := b.answers("", address+wirePort); err != nil {
		return err
	}
	errs := []error{
		b.besideForward("", relayedPort, "the guest's own address", address+wirePort),
		b.besideForward("", relayedPort, "hostfwd of -netdev user", hostfwdPort),
	}
	if noPasst == nil {
		errs = append(errs, b.besidePasst(guests[0]))
	}
	if _, err := exec.LookPath("docker-proxy"); err == nil {
		errs = append(errs, b.besideDocker("", relayedPort, dockerPort, address), b.besideDocker("inet", lanPort, lanDocker, address))
	}
	return errors.Join(append(errs, noPasst)...)
}

// besidePasst compares a port of qnet's with one of passt's. Until the guest has sent a frame, passt
// does not know its MAC and sends to all; a guest's TCP ignores such segments (tcp_v4_rcv in
// net/ipv4/tcp_ipv4.c).
func (b *bench) besidePasst(guest *rig.VM) error {
	if _, err := guest.Guest.Run("ping -c 1 -W 5 " + passtGateway + " || true"); err != nil { // it answers ARP at least
		return err
	}
	if err := b.answers("", passtPort); err != nil {
		return err
	}
	return b.besideForward("", relayedPort, "passt", passtPort)
}

// forwardedGuest has a NIC for each way that a port leads to it.
func forwardedGuest(socket string) rig.Spec {
	nics := rig.NIC(1, "52:54:00:01:02:01", fmt.Sprintf(`{"type":"user","id":"net1","hostfwd":[{"str":"tcp:%s-%s"}]}`, hostfwdPort, wirePort))
	if socket != "" {
		nics = append(nics, rig.NIC(2, "52:54:00:01:02:02", fmt.Sprintf(`{"type":"stream","id":"net2","server":false,"addr":{"type":"unix","path":%q}}`, socket))...)
	}
	return rig.Spec{
		Name: "gf", Mode: "nat", Sandbox: "off", Extra: nics, Ports: []string{relayedPort + wirePort, lanPort + wirePort},
		Cmdline: "qnet.net0=dhcp qnet.net1=10.0.2.15/24 qnet.net2=10.99.0.2/24",
	}
}

// besideDocker compares a port of qnet's with one of docker-proxy, for clients in a namespace, ""
// for the host.
func (b *bench) besideDocker(from, port, docker, guest string) error {
	host, number, _ := strings.Cut(docker, ":")
	// It tells its parent by descriptor 3 that it listens.
	proxy, err := rig.Background("sh", "-c", "exec docker-proxy -proto tcp -host-ip "+host+" -host-port "+number+
		" -container-ip "+guest+" -container-port "+strings.TrimPrefix(wirePort, ":")+" 3> /dev/null")
	if err != nil {
		return err
	}
	defer proxy.Stop()
	if err := b.answers(from, docker); err != nil {
		return err
	}
	return b.besideForward(from, port, "docker-proxy", docker)
}

// answers waits until wire answers at an address.
func (b *bench) answers(from, address string) error {
	return rig.Eventually("wire answers at "+address, 10*time.Second, func() bool {
		_, err := b.client(from, "connect", address)()
		return err == nil
	})
}

// besideForward compares a port of qnet's with another way to the same server.
func (b *bench) besideForward(from, port, against, other string) error {
	what := "forward at 127.0.0.1: "
	if from != "" {
		what = "forward at the host's address, from the LAN: "
	}
	for _, m := range []struct{ what, unit, command string }{
		{"TCP to the guest", "MB/s", "up"},
		{"TCP from the guest", "MB/s", "down"},
		{"TCP request and response", "µs", "rr"},
		{"connection of one byte", "µs", "connect"},
	} {
		row := contest.Row{What: what + m.what, Against: against, Unit: m.unit}
		if err := b.Contest([]contest.Row{row}, b.client(from, m.command, port), b.client(from, m.command, other)); err != nil {
			return err
		}
	}
	return nil
}

// client runs one measurement in a namespace, "" for the host.
func (b *bench) client(from, command, address string) contest.Side {
	argv := []string{b.Wire, command, address}
	if from != "" {
		argv = append([]string{"ip", "netns", "exec", from}, argv...)
	}
	return func() ([]float64, error) { return rig.Figures(argv...) }
}
