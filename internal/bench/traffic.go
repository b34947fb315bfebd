package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	tapBar  = 0.98 // of a hand-made tap's throughput
	userBar = 5    // times user networking's
)

// port is where wire serves.
const port = ":5001"

// traffic measures what passes between a guest and others.
func (b *bench) traffic() error {
	// As on a host that runs the recipe already: where qnet turns an uplink's
	// forwarding on, it lets through what is its own only.
	if err := sh("sysctl -qw net.ipv4.ip_forward=1"); err != nil {
		return err
	}
	defer sh("sysctl -qw net.ipv4.ip_forward=0")
	for _, argv := range [][]string{
		{b.wire, "serve", "0.0.0.0" + port},
		{"ip", "netns", "exec", "inet", b.wire, "serve", resolver + port},
	} {
		server, err := background(argv...)
		if err != nil {
			return err
		}
		defer server.stop()
	}
	qnet, err := b.guests(b.qnetVM, spec{name: "ga", mode: "nat"}, spec{name: "gb", mode: "nat"})
	if err != nil {
		return err
	}
	defer stopAll(qnet)
	if err := b.besideTap(qnet); err != nil {
		return err
	}
	user, err := b.guests(b.rawVM, spec{name: "ge"})
	if err != nil {
		return err
	}
	err = b.besideUser(qnet[0], user[0], "-netdev user", userBar)
	stopAll(user)
	if err != nil {
		return err
	}
	return b.besidePasst(qnet[0])
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

func (b *bench) besideTap(qnet []*vm) error {
	recipe, err := b.guests(b.recipeVM,
		spec{name: "gc", mode: "nat", first: true, cmdline: "qnet.net0=192.168.77.10/24,192.168.77.1"},
		spec{name: "gd", mode: "nat", cmdline: "qnet.net0=192.168.77.11/24,192.168.77.1"})
	if err != nil {
		return err
	}
	defer stopAll(recipe)
	peers := map[*vm]string{}
	for _, pair := range [][]*vm{qnet, recipe} {
		peer, err := pair[1].guest.run("ip -4 addr show eth0 | sed -n 's/.*inet \\([0-9.]*\\).*/\\1/p'; wire serve 0.0.0.0" + port + " > /dev/null 2>&1 &")
		if err != nil {
			return err
		}
		peers[pair[0]] = strings.TrimSpace(peer) + port
	}
	for _, m := range []struct {
		row
		command string
		to      func(v *vm) string
	}{
		{row{what: "TCP, guest to host", unit: "MB/s", least: tapBar}, "up", host},
		{row{what: "TCP, host to guest", unit: "MB/s", least: tapBar}, "down", host},
		{row{what: "TCP, guest to the outside by NAT", unit: "MB/s", least: tapBar}, "up", outsider},
		{row{what: "TCP, the outside to guest by NAT", unit: "MB/s", least: tapBar}, "down", outsider},
		{row{what: "TCP, guest to guest", unit: "MB/s", least: tapBar}, "up", func(v *vm) string { return peers[v] }},
		{row{what: "datagrams of 64 bytes, guest to host", unit: "/s", least: tapBar}, "packets-up", host},
		{row{what: "datagrams of 64 bytes, host to guest", unit: "/s", least: tapBar}, "packets-down", host},
		{row{what: "TCP request and response", unit: "µs", most: 1}, "rr", host},
	} {
		m.against = "hand-made tap with vnet_hdr"
		err := b.contest([]row{m.row}, qnet[0].wire(m.command, m.to), recipe[0].wire(m.command, m.to))
		if err != nil {
			return err
		}
	}
	return b.contest([]row{{what: "ping, guest to host", against: "hand-made tap with vnet_hdr", unit: "µs", most: 1}},
		qnet[0].ping(), recipe[0].ping())
}

func host(*vm) string     { return gateway + port }
func outsider(*vm) string { return resolver + port }

// wire runs one measurement in the guest.
func (v *vm) wire(command string, to func(*vm) string) side {
	return func() ([]float64, error) {
		out, err := v.guest.run("wire " + command + " " + to(v))
		if err != nil {
			return nil, err
		}
		figure, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
		return []float64{figure}, err
	}
}

var average = regexp.MustCompile(`= [0-9.]+/([0-9.]+)/`)

func (v *vm) ping() side {
	return func() ([]float64, error) {
		out, err := v.guest.run("ping -q -c 40 -i 0.01 " + gateway)
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
func (b *bench) besideUser(qnet, other *vm, name string, bar float64) error {
	for _, m := range []struct {
		row
		command string
	}{
		{row{what: "TCP, guest to host", unit: "MB/s", least: bar}, "up"},
		{row{what: "TCP, host to guest", unit: "MB/s", least: bar}, "down"},
		{row{what: "datagrams of 64 bytes, guest to host", unit: "/s"}, "packets-up"},
		{row{what: "TCP request and response", unit: "µs", most: 1}, "rr"},
	} {
		m.against = name
		if err := b.contest([]row{m.row}, qnet.wire(m.command, host), other.wire(m.command, host)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) besidePasst(qnet *vm) error {
	dir := filepath.Join(b.dir, "passt") // passt, as root, becomes nobody
	if err := errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777)); err != nil {
		return err
	}
	socket := filepath.Join(dir, "socket")
	passt, err := background("passt", "--foreground", "--quiet", "--socket", socket)
	if err != nil {
		return err
	}
	defer passt.stop()
	listens := func() bool { _, err := os.Stat(socket); return err == nil }
	if err := eventually("passt listens", 10*time.Second, listens); err != nil {
		return err
	}
	other, err := b.guests(b.rawVM, spec{name: "gf", backend: fmt.Sprintf(`{"type":"stream","id":"net0","server":false,"addr":{"type":"unix","path":%q}}`, socket)})
	if err != nil {
		return err
	}
	defer stopAll(other)
	return b.besideUser(qnet, other[0], "passt", 0)
}

// queues measures what a second queue brings on hand-made taps: qnet's choice.
func (b *bench) queues() error {
	server, err := background(b.wire, "serve", "0.0.0.0"+port)
	if err != nil {
		return err
	}
	defer server.stop()
	net := "qnet.net0=192.168.77.%d/24,192.168.77.1"
	guests, err := b.guests(b.recipeVM,
		spec{name: "gc", mode: "host-only", first: true, cpus: 2, cmdline: fmt.Sprintf(net, 10)},
		spec{name: "gd", mode: "host-only", cpus: 2, queues: 2, cmdline: fmt.Sprintf(net, 11)})
	if err != nil {
		return err
	}
	defer stopAll(guests)
	for _, m := range []struct {
		row
		command string
	}{
		{row{what: "two queues, TCP, guest to host", unit: "MB/s"}, "up"},
		{row{what: "two queues, TCP, host to guest", unit: "MB/s"}, "down"},
		{row{what: "two queues, TCP request and response", unit: "µs"}, "rr"},
	} {
		m.against = "one queue, both hand-made, 2 vCPUs"
		if err := b.contest([]row{m.row}, guests[1].wire(m.command, host), guests[0].wire(m.command, host)); err != nil {
			return err
		}
	}
	return nil
}
