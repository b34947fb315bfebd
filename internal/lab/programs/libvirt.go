package programs

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/profiles"
)

// Libvirt is the real libvirtd with its default network: bridge virbr0, subnet
// 192.168.122.0/24, a dnsmasq on ports 53 and 67, and rules in the chains of iptables. It
// turns on ip_forward of the host.
func Libvirt() Program {
	l := &libvirt{}
	return Program{
		Name:    "libvirt",
		Needs:   []lab.Need{lab.Root, lab.Program("libvirtd"), lab.Program("virsh"), lab.Program("dnsmasq"), lab.Program("iptables")},
		Start:   l.start,
		Reload:  l.reload,
		Works:   l.works,
		State:   l.state,
		Version: func() string { return version("libvirt", "virsh --version") },
		Refuses: func(profiles.Mode) string { return "" },
	}
}

type libvirt struct{ stop func() }

const virsh = "virsh -q -c network:///system "

func (l *libvirt) start(t testing.TB) {
	t.Helper()
	lab.MountEmpty(t, "/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")
	lab.Sh(t, `mkdir -p /etc/libvirt/qemu/networks/autostart /var/lib/libvirt/dnsmasq
cp /usr/share/libvirt/networks/default.xml /etc/libvirt/qemu/networks/default.xml`)
	l.run(t)
	lab.Sh(t, virsh+"net-start default")
	t.Cleanup(func() { // libvirtd's dnsmasq outlives it
		lab.Try("pid=$(cat /run/libvirt/network/default.pid); kill $pid; while kill -0 $pid 2> /dev/null; do sleep 0.05; done")
	})
	// A guest keeps virbr0 up, as a VM does. The bridge runs STP.
	lab.Guest(t, "libvirtvm", "virbr0", "", "")
	lab.Eventually(t, 30*time.Second, "a port of virbr0", func() bool {
		out, _ := lab.Try("bridge link show dev vlibvirtvm")
		return strings.Contains(out, "state forwarding")
	})
	if err := l.works(t); err != nil {
		t.Fatal(err)
	}
}

func (l *libvirt) run(t testing.TB) {
	t.Helper()
	l.stop = lab.Daemon(t, "libvirtd", "--pid-file", "/run/libvirt/libvirtd.pid")
	lab.Eventually(t, 30*time.Second, "libvirtd", func() bool {
		_, err := lab.Try(virsh + "net-info default")
		return err == nil
	})
}

// reload restarts the daemon, which then loads its rules again.
func (l *libvirt) reload(t testing.TB) {
	t.Helper()
	l.stop()
	l.run(t)
}

// works checks that the network is active, and that a guest on it gets a lease, resolves
// a name and reaches the outside.
func (l *libvirt) works(t testing.TB) error {
	t.Helper()
	if out, err := lab.Try(virsh + "net-info default"); err != nil || !strings.Contains(out, "Active:         yes") {
		return fmt.Errorf("libvirt's network: %w: %s", err, out)
	}
	script := t.TempDir() + "/configure"
	text := "#!/bin/sh\n[ $1 != bound ] || { ip addr flush dev $interface; ip addr add $ip/$mask dev $interface; ip route add default via $router; }\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	const vm = "timeout 15 ip netns exec libvirtvm "
	if out, err := lab.Try(vm + "busybox udhcpc -i eth0 -n -q -f -t 9 -T 1 -s " + script); err != nil {
		return fmt.Errorf("lease of a guest of libvirt's: %w: %s", err, out)
	}
	if out, err := lab.Try(vm + "busybox nslookup -type=a localhost 192.168.122.1"); err != nil && !strings.Contains(out, "NXDOMAIN") {
		return fmt.Errorf("libvirt's name server: %w: %s", err, out)
	}
	if !lab.Pings("libvirtvm", "203.0.113.1") {
		return errors.New("a guest of libvirt's does not reach the outside")
	}
	return nil
}

// state is the network, its link, the rules and the files.
func (l *libvirt) state(t testing.TB) string {
	t.Helper()
	return lab.Sh(t, virsh+`net-dumpxml default; ip -o addr show dev virbr0; ip route show dev virbr0; iptables-save | grep -v '^#\|^:'
cd /etc/libvirt; find . -type f | sort | xargs sha256sum; sha256sum /var/lib/libvirt/dnsmasq/default.conf; cat /proc/sys/net/ipv4/ip_forward`)
}
