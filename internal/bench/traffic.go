package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	tapBar  = 0.98 // of a hand-made tap's throughput
	userBar = 5    // times user networking's
)

// near is how many times more pairs it takes to tell near contenders apart.
const near = 3

// port is where wire serves.
const port = ":5001"

// path is one NIC of the guest that is measured, and what is beyond it. All
// contenders are NICs of the same guest: two guests of one kind differ from boot to
// boot by more than what is looked for.
type path struct {
	name    string
	link    string // in the guest
	gateway string // the host as seen from there
	peer    string // the other guest's address by that network
}

// host and outsider are where wire serves.
func (p path) host() string     { return p.gateway + port }
func (p path) outsider() string { return resolver + port }
func (p path) others() string   { return p.peer + port }

// traffic measures what passes between a guest and others.
func (b *bench) traffic() error {
	// As on a host that runs the recipe already: where qnet turns an uplink's
	// forwarding on, it lets through what is its own only.
	if err := sh("sysctl -qw net.ipv4.ip_forward=1"); err != nil {
		return err
	}
	defer sh("sysctl -qw net.ipv4.ip_forward=0")
	stop, err := b.startServers()
	defer stop()
	if err != nil {
		return err
	}
	if err := b.openTun(); err != nil {
		return err
	}
	defer sh("umount /dev/net/tun")
	for i, tap := range []string{"tga", "tgb"} {
		stop, err := b.recipeTap(tap, i == 0)
		if err != nil {
			return err
		}
		defer stop()
	}
	socket, passt, noPasst := b.startPasst()
	if noPasst == nil {
		defer passt.stop()
	}
	guests, err := b.guests(b.qnetVM, trafficGuests(socket)...)
	if err != nil {
		return err
	}
	defer stopAll(guests)
	return errors.Join(b.comparePaths(guests, noPasst == nil), noPasst)
}

// startServers starts wire on the host and in the outside.
func (b *bench) startServers() (stop func(), err error) {
	var servers []daemon
	stop = func() {
		for _, s := range servers {
			s.stop()
		}
	}
	for _, argv := range [][]string{
		{b.wire, "serve", "0.0.0.0" + port},
		{"ip", "netns", "exec", "inet", b.wire, "serve", resolver + port},
	} {
		s, err := background(argv...)
		if err != nil {
			return stop, err
		}
		servers = append(servers, s)
	}
	return stop, nil
}

// trafficGuests are the guest that is measured, with a NIC of each kind, and its
// peer. Without a socket there is no passt.
func trafficGuests(socket string) []spec {
	nics := slices.Concat(handMade("tga", "52:54:00:01:02:0a"), nic(2, "52:54:00:01:02:02", `{"type":"user","id":"net2"}`))
	if socket != "" {
		nics = append(nics, nic(3, "52:54:00:01:02:03", fmt.Sprintf(`{"type":"stream","id":"net3","server":false,"addr":{"type":"unix","path":%q}}`, socket))...)
	}
	return []spec{
		{name: "ga", mode: "nat", extra: nics, cmdline: "qnet.net0=dhcp qnet.net1=192.168.77.10/24 qnet.net2=10.0.2.15/24 qnet.net3=192.0.2.10/24"},
		{name: "gb", mode: "nat", extra: handMade("tgb", "52:54:00:01:02:0b"), cmdline: "qnet.net0=dhcp qnet.net1=192.168.77.11/24"},
	}
}

func (b *bench) comparePaths(guests []*vm, passt bool) error {
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

// nic are QEMU's arguments for one more NIC.
func nic(i int, mac, backend string) []string {
	return []string{
		"-netdev", backend,
		"-device", fmt.Sprintf(`{"driver":"virtio-net-pci","addr":"0x%x","netdev":"net%d","mac":%q,"romfile":""}`, 0x10+i, i, mac),
	}
}

func handMade(tap, mac string) []string {
	return nic(1, mac, fmt.Sprintf(`{"type":"tap","id":"net1","ifname":%q,"script":"no","downscript":"no"}`, tap))
}

// openTun lets everybody open /dev/net/tun, as udev does: QEMU, which is nobody,
// opens the hand-made taps itself.
func (b *bench) openTun() error {
	dir := filepath.Join(b.dir, "dev")
	return sh("mkdir -p " + dir + "; mount -t tmpfs tmpfs " + dir + "; mknod -m 666 " + dir + "/tun c 10 200; mount --bind " + dir + "/tun /dev/net/tun; umount -l " + dir)
}

// recipeTap makes a tap by the recipe, and its bridge for the first, until stop.
func (b *bench) recipeTap(tap string, first bool) (stop func(), err error) {
	args := b.recipeArgs("nat", tap, first, "sh", "-c", "echo ready; read end")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "TAP_OPTIONS=user nobody")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		in.Close() // the recipe's QEMU ends
		cmd.Wait() // it says on stderr what there is to say
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		stop()
		return nil, fmt.Errorf("recipe: %w", err)
	}
	return stop, nil
}

// guests boots VMs, one after the other.
func (b *bench) guests(start func(spec) (*vm, error), specs ...spec) ([]*vm, error) {
	var list []*vm
	for _, s := range specs {
		v, err := b.boot(start, s)
		if err != nil {
			stopAll(list)
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func stopAll(list []*vm) {
	for i := len(list) - 1; i >= 0; i-- {
		list[i].kill() // what is left shows in the next group
	}
}

// paths are those of the first guest to the second, which serves.
func paths(guests []*vm) (qnet, tap path, err error) {
	gateway, err := guests[0].guest.run("echo " + viaDHCP)
	if err != nil {
		return qnet, tap, err
	}
	peer, err := guests[1].guest.run("ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'; wire serve 0.0.0.0" + port + " > /dev/null 2>&1 &")
	return path{"qnet", "eth0", strings.TrimSpace(gateway), strings.TrimSpace(peer)},
		path{"hand-made tap with vnet_hdr", "eth1", "192.168.77.1", "192.168.77.11"}, err
}

// measurement is a command of wire, and what it is to reach.
type measurement struct {
	row
	command string
	to      func(path) string
}

// end is a guest and one of its NICs.
type end struct {
	*vm
	path
}

// compare has both ends take each measurement, against the other's name.
func (b *bench) compare(list []measurement, against string, one, other end) error {
	for _, m := range list {
		m.against = against
		if err := b.contest([]row{m.row}, one.wire(m.command, one.path, m.to), other.wire(m.command, other.path, m.to)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) besideTap(v *vm, qnet, tap path) error {
	err := b.compare([]measurement{
		{row{what: "TCP, guest to host", unit: "MB/s", least: tapBar, rounds: near}, "up", path.host},
		{row{what: "TCP, host to guest", unit: "MB/s", least: tapBar, rounds: near}, "down", path.host},
		{row{what: "TCP, guest to the outside by NAT", unit: "MB/s", least: tapBar, rounds: near}, "up", path.outsider},
		{row{what: "TCP, the outside to guest by NAT", unit: "MB/s", least: tapBar, rounds: near}, "down", path.outsider},
		{row{what: "TCP, guest to guest", unit: "MB/s", least: tapBar, rounds: near}, "up", path.others},
		{row{what: "datagrams of 64 bytes, guest to host", unit: "/s", least: tapBar, rounds: near}, "packets-up", path.host},
		{row{what: "datagrams of 64 bytes, host to guest", unit: "/s", least: tapBar, rounds: near}, "packets-down", path.host},
		{row{what: "TCP request and response", unit: "µs", most: 1, rounds: near}, "rr", path.host},
	}, tap.name, end{v, qnet}, end{v, tap})
	if err != nil {
		return err
	}
	if err := b.contest([]row{{what: "ping, guest to host", against: tap.name, unit: "µs", most: 1, rounds: near}}, v.ping(qnet), v.ping(tap)); err != nil {
		return err
	}
	return b.compare([]measurement{{row{what: "the hand-made tap: TCP request and response", unit: "µs", rounds: near}, "rr", path.host}},
		"itself", end{v, tap}, end{v, tap})
}

// wire runs one measurement in the guest, by one of its NICs.
func (v *vm) wire(command string, p path, to func(path) string) side {
	return v.figure("ip route replace default via " + p.gateway + " dev " + p.link + "; wire " + command + " " + to(p))
}

// figure runs what prints a number in the guest.
func (v *vm) figure(command string) side {
	return func() ([]float64, error) {
		out, err := v.guest.run(command)
		if err != nil {
			return nil, err
		}
		figure, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
		return []float64{figure}, err
	}
}

var average = regexp.MustCompile(`= [0-9.]+/([0-9.]+)/`)

func (v *vm) ping(p path) side {
	return func() ([]float64, error) {
		out, err := v.guest.run("ping -q -c 40 -i 0.01 " + p.gateway)
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

// besideUser is for what has no rights to a tap.
func (b *bench) besideUser(v *vm, qnet, other path, bar float64) error {
	return b.compare([]measurement{
		{row{what: "TCP, guest to host", unit: "MB/s", least: bar}, "up", path.host},
		{row{what: "TCP, host to guest", unit: "MB/s", least: bar}, "down", path.host},
		{row{what: "datagrams of 64 bytes, guest to host", unit: "/s"}, "packets-up", path.host},
		{row{what: "TCP request and response", unit: "µs", most: 1}, "rr", path.host},
	}, other.name, end{v, qnet}, end{v, other})
}

// tapBesideUser shows how far any tap gets, with this guest's CPU.
func (b *bench) tapBesideUser(v *vm, tap, user path) error {
	return b.compare([]measurement{
		{row{what: "the hand-made tap: TCP, guest to host", unit: "MB/s"}, "up", path.host},
		{row{what: "the hand-made tap: TCP, host to guest", unit: "MB/s"}, "down", path.host},
	}, user.name, end{v, tap}, end{v, user})
}

// startPasst starts passt for a NIC that connects to its socket.
func (b *bench) startPasst() (socket string, passt daemon, err error) {
	dir := filepath.Join(b.dir, "passt") // passt, as root, becomes nobody
	if err := errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
		return "", passt, err
	}
	socket = filepath.Join(dir, "socket")
	if passt, err = background("passt", "--foreground", "--quiet", "--socket", socket); err != nil {
		return "", passt, err
	}
	listens := func() bool { _, err := os.Stat(socket); return err == nil }
	if err := eventually("passt listens", 10*time.Second, listens); err != nil {
		passt.stop()
		return "", passt, err
	}
	return socket, passt, nil
}
