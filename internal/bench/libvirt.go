package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
)

// libvirtXML is a nat network or, for a domain's name, a VM on it with the devices
// that qnet gives one.
var libvirtXML = template.Must(template.New("").Parse(`
{{- if .Domain}}<domain type='qemu'>
  <name>{{.Domain}}</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    {{- if .Halted}}<loader type='rom'>{{.Halted}}</loader>{{else}}<kernel>{{.Kernel}}</kernel><initrd>{{.Initrd}}</initrd><cmdline>console=ttyS0 quiet</cmdline>{{end}}</os>
  <cpu mode='maximum'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <interface type='network'><source network='bench'/><model type='virtio'/><rom enabled='no'/></interface>
    <serial type='pty'/><memballoon model='none'/>
    <rng model='virtio'><backend model='builtin'/></rng>
  </devices>
</domain>
{{- else}}<network><name>bench</name><forward mode='nat'/><bridge name='lvb0' stp='off' delay='0'/>
  <ip address='192.168.78.1' netmask='255.255.255.0'><dhcp><range start='192.168.78.2' end='192.168.78.254'/></dhcp></ip>
</network>{{end}}`))

// libvirtDirs are what the daemon writes to; they are empty ones of its own here.
var libvirtDirs = []string{"/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"}

// daemons are libvirtd and virtlogd.
type daemons []rig.Daemon

// startLibvirt starts libvirt in a mount namespace of its own, the caller's thread's,
// where there is no /dev/kvm: it would probe that for seconds.
func (b *bench) startLibvirt() (d daemons, err error) {
	for _, dir := range libvirtDirs {
		if err := errors.Join(os.MkdirAll(dir, 0o755), unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755")); err != nil {
			return nil, fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	conf := `security_driver = "none"
user = "root"
group = "root"
remember_owner = 0
namespaces = []
cgroup_controllers = []
`
	if err := os.WriteFile("/etc/libvirt/qemu.conf", []byte(conf), 0o644); err != nil {
		return nil, err
	}
	for _, program := range []string{"virtlogd", "libvirtd"} {
		one, err := rig.Background("sh", "-c", "exec "+program+" 2> "+filepath.Join(b.Dir, program+".log"))
		if err != nil {
			return d, err
		}
		d = append(d, one)
	}
	return d, rig.Eventually("libvirtd answers", 30*time.Second, func() bool { return virsh("list") == nil })
}

// hideKVM makes a /dev without /dev/kvm.
func hideKVM() error {
	return rig.Sh(`
dir=$(mktemp -d)
mount -t tmpfs tmpfs $dir
for f in null zero full random urandom tty; do cp -a /dev/$f $dir/; done
mkdir $dir/net $dir/pts $dir/shm
cp -a /dev/net/tun $dir/net/
mount --bind /dev/pts $dir/pts
ln -s pts/ptmx $dir/ptmx
ln -s /proc/self/fd $dir/fd
mount --move $dir /dev
rmdir $dir`)
}

func virsh(args ...string) error {
	cmd := exec.Command("virsh", append([]string{"-q", "-c", "qemu:///system"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("virsh %v: %w\n%s", args, err, out)
	}
	return nil
}

func (b *bench) define(domain, halted string) error {
	var text bytes.Buffer
	err := libvirtXML.Execute(&text, map[string]string{"Domain": domain, "Halted": halted, "Kernel": b.Kernel(), "Initrd": b.Initrd()})
	if err != nil {
		return err
	}
	path := filepath.Join(b.Dir, "define.xml")
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return err
	}
	if domain == "" {
		return virsh("net-define", path)
	}
	return virsh("define", path)
}

// libvirt measures start and end of a network and a VM, and memory, against libvirt.
func (b *bench) libvirt() error {
	if err := hideKVM(); err != nil {
		return err
	}
	d, err := b.startLibvirt()
	defer func() {
		for _, one := range d {
			one.Stop()
		}
	}()
	if err != nil {
		return err
	}
	if err := errors.Join(b.define("", ""), b.define("vm", "")); err != nil {
		return err
	}
	libvirt := func() ([]float64, error) {
		begin := time.Now()
		if err := errors.Join(virsh("net-start", "bench"), virsh("start", "vm")); err != nil {
			return nil, err
		}
		started := time.Now()
		if err := errors.Join(virsh("destroy", "vm"), virsh("net-destroy", "bench")); err != nil {
			return nil, err
		}
		return []float64{ms(started.Sub(begin)), ms(time.Since(started))}, nil
	}
	qnet := func() ([]float64, error) {
		v, err := b.QnetVM(rig.Spec{Name: "va", Mode: "nat"})
		if err != nil {
			return nil, err
		}
		fromSignal, _, err := v.Kill()
		return []float64{ms(v.Running), ms(fromSignal)}, err
	}
	if _, err := libvirt(); err != nil { // its first asks QEMU what it can
		return err
	}
	err = b.Contest([]contest.Row{
		{What: "launch, network and VM", Against: "virsh net-start and start", Unit: "ms", Most: 0.1},
		{What: "teardown of both, from the signal that ends QEMU", Against: "virsh destroy and net-destroy", Unit: "ms", Most: 0.05},
	}, qnet, libvirt)
	if err != nil {
		return err
	}
	return b.memoryBesideLibvirt(d)
}
