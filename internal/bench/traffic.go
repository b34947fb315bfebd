package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

const (
	tapBar  = 0.98 // of a hand-made tap's throughput
	userBar = 5    // times user networking's
)

// near is the factor of rounds that it takes to tell near contenders apart.
const near = 3

// wirePort is the TCP and UDP port of wire serve.
const wirePort = ":5001"

// path is one NIC of the guest that is measured, and the hosts beyond it. All
// contenders are NICs of the same guest, because two boots of one guest differ by more
// than two NICs.
type path struct {
	name    string
	link    string // in the guest
	gateway string // the host as seen from there
	peer    string // the other guest's address by that network
}

// host and outsider are where wire serves.
func (p path) host() string     { return p.gateway + wirePort }
func (p path) outsider() string { return rig.Resolver + wirePort }
func (p path) others() string   { return p.peer + wirePort }

// traffic measures what passes between a guest and others.
func (b *bench) traffic() error {
	// As on a host that runs the recipe already. Where qnet itself turns on the
	// forwarding of an uplink, it drops what is not its own.
	if err := rig.Sh("sysctl -qw net.ipv4.ip_forward=1"); err != nil {
		return err
	}
	defer rig.Sh("sysctl -qw net.ipv4.ip_forward=0")
	stop, err := b.startServers()
	defer stop()
	if err != nil {
		return err
	}
	closeTun, err := b.OpenTun()
	if err != nil {
		return err
	}
	defer closeTun()
	for i, vm := range []string{"ga", "gb"} {
		stop, err := b.RecipeTap("t"+vm, vm, i == 0)
		if err != nil {
			return err
		}
		defer stop()
	}
	socket, passt, noPasst := b.startPasst()
	if noPasst == nil {
		defer passt.Stop()
	}
	guests, err := rig.Boot(b.QnetVM, trafficGuests(socket)...)
	if err != nil {
		return err
	}
	defer rig.KillAll(guests)
	return errors.Join(b.comparePaths(guests, noPasst == nil), noPasst)
}

// startServers starts wire on the host and in the outside.
func (b *bench) startServers() (stop func(), err error) {
	var servers []rig.Daemon
	stop = func() {
		for _, s := range servers {
			s.Stop()
		}
	}
	for _, argv := range [][]string{
		{b.Wire, "serve", "0.0.0.0" + wirePort},
		{"ip", "netns", "exec", "inet", b.Wire, "serve", rig.Resolver + wirePort},
	} {
		s, err := rig.Background(argv...)
		if err != nil {
			return stop, err
		}
		servers = append(servers, s)
	}
	return stop, nil
}

// trafficGuests are the guest that is measured, with a NIC of each kind, and its
// peer. Without a socket there is no passt. QEMU attaches itself to the hand-made tap, which a
// confined one may not.
func trafficGuests(socket string) []rig.Spec {
	nics := slices.Concat(rig.HandMade("tga", "52:54:00:01:02:0a"), rig.NIC(2, "52:54:00:01:02:02", `{"type":"user","id":"net2"}`))
	if socket != "" {
		nics = append(nics, rig.NIC(3, "52:54:00:01:02:03", fmt.Sprintf(`{"type":"stream","id":"net3","server":false,"addr":{"type":"unix","path":%q}}`, socket))...)
	}
	return []rig.Spec{
		{Name: "ga", Mode: "nat", Sandbox: "off", Extra: nics, Cmdline: "qnet.net0=dhcp qnet.net1=192.168.77.10/24 qnet.net2=10.0.2.15/24 qnet.net3=192.0.2.10/24"},
		{Name: "gb", Mode: "nat", Sandbox: "off", Extra: rig.HandMade("tgb", "52:54:00:01:02:0b"), Cmdline: "qnet.net0=dhcp qnet.net1=192.168.77.11/24"},
	}
}

func (b *bench) comparePaths(guests []*rig.VM, passt bool) error {
	qnet, tap, err := paths(guests)
	if err != nil {
		return err
	}
	if err := b.besideTap(guests[0], qnet, tap); err != nil {
		return err
	}
	user := path{name: "-netdev user", link: "eth2", gateway: "10.0.2.2"}
	if err := errors.Join(b.besideUser(guests[0], qnet, user, userBar), b.tapBesideUser(guests[0], tap, user)); err != nil || !passt {
		return err
	}
	return b.besideUser(guests[0], qnet, path{name: "passt", link: "eth3", gateway: "192.0.2.1"}, 0)
}

// paths are those of the first guest to the second, which serves.
func paths(guests []*rig.VM) (qnet, tap path, err error) {
	gateway, err := guests[0].Guest.Run("echo " + rig.Gateway)
	if err != nil {
		return qnet, tap, err
	}
	peer, err := guests[1].Guest.Run("ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'; wire serve 0.0.0.0" + wirePort + " > /dev/null 2>&1 &")
	return path{"qnet", "eth0", strings.TrimSpace(gateway), strings.TrimSpace(peer)},
		path{"hand-made tap with vnet_hdr", "eth1", "192.168.77.1", "192.168.77.11"}, err
}

// measurement is a command of wire, and the address that the command gets.
type measurement struct {
	contest.Row
	command string
	to      func(path) string
}

// end is a guest and one of its NICs.
type end struct {
	vm *rig.VM
	path
}

// compare takes each measurement at both ends. against is the name of other.
func (b *bench) compare(list []measurement, against string, one, other end) error {
	for _, m := range list {
		m.Against = against
		if err := b.Contest([]contest.Row{m.Row}, wire(one, m.command, m.to), wire(other, m.command, m.to)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) besideTap(v *rig.VM, qnet, tap path) error {
	err := b.compare([]measurement{
		{contest.Row{What: "TCP, guest to host", Unit: "MB/s", Least: tapBar, Rounds: near}, "up", path.host},
		{contest.Row{What: "TCP, host to guest", Unit: "MB/s", Least: tapBar, Rounds: near}, "down", path.host},
		{contest.Row{What: "TCP, guest to the outside by NAT", Unit: "MB/s", Least: tapBar, Rounds: near}, "up", path.outsider},
		{contest.Row{What: "TCP, the outside to guest by NAT", Unit: "MB/s", Least: tapBar, Rounds: near}, "down", path.outsider},
		{contest.Row{What: "TCP, guest to guest", Unit: "MB/s", Least: tapBar, Rounds: near}, "up", path.others},
		{contest.Row{What: "datagrams of 64 bytes, guest to host", Unit: "/s", Least: tapBar, Rounds: near}, "packets-up", path.host},
		{contest.Row{What: "datagrams of 64 bytes, host to guest", Unit: "/s", Least: tapBar, Rounds: near}, "packets-down", path.host},
		{contest.Row{What: "TCP request and response", Unit: "µs", Most: 1, Rounds: near}, "rr", path.host},
	}, tap.name, end{v, qnet}, end{v, tap})
	if err != nil {
		return err
	}
	if err := b.Contest([]contest.Row{{What: "ping, guest to host", Against: tap.name, Unit: "µs", Most: 1, Rounds: near}}, ping(v, qnet), ping(v, tap)); err != nil {
		return err
	}
	return b.compare([]measurement{{contest.Row{What: "the hand-made tap: TCP request and response", Unit: "µs", Rounds: near}, "rr", path.host}},
		"itself", end{v, tap}, end{v, tap})
}

// wire runs one measurement in the guest, by one of its NICs.
func wire(e end, command string, to func(path) string) contest.Side {
	return figure(e.vm, "ip route replace default via "+e.gateway+" dev "+e.link+"; wire "+command+" "+to(e.path))
}

// figure runs a command in the guest that prints a number.
func figure(v *rig.VM, command string) contest.Side {
	return func() ([]float64, error) {
		out, err := v.Guest.Run(command)
		if err != nil {
			return nil, err
		}
		figure, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
		return []float64{figure}, err
	}
}

var average = regexp.MustCompile(`= [0-9.]+/([0-9.]+)/`)

func ping(v *rig.VM, p path) contest.Side {
	return func() ([]float64, error) {
		out, err := v.Guest.Run("ping -q -c 40 -i 0.01 " + p.gateway)
		if err != nil {
			return nil, err
		}
		m := average.FindStringSubmatch(out)
		if m == nil {
			return nil, fmt.Errorf("no average in %q", out)
		}
		figure, err := strconv.ParseFloat(m[1], 64)
		return []float64{figure * 1000}, err
	}
}

// besideUser compares qnet with a backend that needs no rights to a tap.
func (b *bench) besideUser(v *rig.VM, qnet, other path, bar float64) error {
	return b.compare([]measurement{
		{contest.Row{What: "TCP, guest to host", Unit: "MB/s", Least: bar}, "up", path.host},
		{contest.Row{What: "TCP, host to guest", Unit: "MB/s", Least: bar}, "down", path.host},
		{contest.Row{What: "datagrams of 64 bytes, guest to host", Unit: "/s"}, "packets-up", path.host},
		{contest.Row{What: "TCP request and response", Unit: "µs", Most: 1}, "rr", path.host},
	}, other.name, end{v, qnet}, end{v, other})
}

// tapBesideUser shows the best ratio that any tap can reach, with this guest's CPU.
func (b *bench) tapBesideUser(v *rig.VM, tap, user path) error {
	return b.compare([]measurement{
		{contest.Row{What: "the hand-made tap: TCP, guest to host", Unit: "MB/s"}, "up", path.host},
		{contest.Row{What: "the hand-made tap: TCP, host to guest", Unit: "MB/s"}, "down", path.host},
	}, user.name, end{v, tap}, end{v, user})
}

// startPasst starts passt, with more options, for a NIC that connects to its socket.
func (b *bench) startPasst(more ...string) (socket string, passt rig.Daemon, err error) {
	dir := filepath.Join(b.Dir, "passt") // passt, as root, becomes nobody
	if err := errors.Join(os.MkdirAll(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
		return "", passt, err
	}
	socket = filepath.Join(dir, "socket")
	os.Remove(socket) // another group's
	if passt, err = rig.Background(append([]string{"passt", "--foreground", "--quiet", "--socket", socket}, more...)...); err != nil {
		return "", passt, err
	}
	listens := func() bool { _, err := os.Stat(socket); return err == nil }
	err = rig.Eventually("passt listens", 10*time.Second, listens)
	if err == nil {
		err = os.Chmod(socket, 0o777) // each VM's QEMU has a user of its own
	}
	if err != nil {
		passt.Stop()
		return "", passt, err
	}
	return socket, passt, nil
}
