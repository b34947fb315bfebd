package machine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/internal/agent"
	"github.com/qnet-vm/qnet/internal/guestagent"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/pattern"
)

// firstFD is the number that the first inherited file has in a child.
const firstFD = 3

// Spec is a QEMU command line with the files it refers to.
type Spec struct {
	Args  []string          // without the binary
	Files []*os.File        // Files[i] is the child's descriptor 3+i; 0 is QMP, 1 the console
	names map[string]string // of files, by what QEMU calls them, such as "/dev/fdset/1"
}

// options is a QEMU option in its JSON form. Maps are encoded in the order of
// their keys, so a config always gives the same text.
type options map[string]any

// builder collects a Spec.
type builder struct {
	spec Spec
	sets int // fdsets so far
	err  error
}

// Command returns the command line for c. It is pure: files are only numbered,
// and may be nil, as in `qnet plan`. A snapshot's overlay, which Prepare makes,
// has a nil place among the files.
func Command(c Config, qmp, console *os.File) (Spec, error) {
	if err := c.validate(); err != nil {
		return Spec{}, err
	}
	b := &builder{}
	b.machine(c)
	b.panics(c.Extra)
	b.channels(qmp, console)
	b.ports(c)
	b.flash(c.UEFI)
	disks, nics := c.bootIndexes()
	for i, d := range c.Disks {
		b.disk(i, d, disks[i])
	}
	for i, n := range c.NICs {
		b.nic(i, n, c.Kernel == nil, nics[i])
	}
	b.shares(c) // whose slot is fixed: before those that take a free one
	b.devices(c.Devices, c.tpm)
	b.bootMenu(c)
	b.boot(c)
	b.told(c)
	if c.Incoming {
		b.add("-incoming", "defer")
	}
	b.add(c.Extra...)
	return b.spec, b.err
}

func (b *builder) add(args ...string) { b.spec.Args = append(b.spec.Args, args...) }

// json adds an option whose value is a JSON object.
func (b *builder) json(option string, o options) {
	text, err := json.Marshal(o)
	if err != nil {
		b.err = fmt.Errorf("encode %s: %w", option, err)
		return
	}
	b.add(option, string(text))
}

// file numbers f as the child will see it.
func (b *builder) file(f *os.File) string {
	b.spec.Files = append(b.spec.Files, f)
	return strconv.Itoa(firstFD + len(b.spec.Files) - 1)
}

// files numbers several, with colons between.
func (b *builder) files(files []*os.File) string {
	fds := make([]string, len(files))
	for i, f := range files {
		fds[i] = b.file(f)
	}
	return strings.Join(fds, ":")
}

// fdset makes f available to QEMU's block layer and returns its path there.
func (b *builder) fdset(f *os.File) string {
	b.sets++
	set := strconv.Itoa(b.sets)
	b.add("-add-fd", "fd="+b.file(f)+",set="+set)
	return b.named("/dev/fdset/"+set, f)
}

// named remembers the file's name for what QEMU calls it, which it returns.
func (b *builder) named(path string, f *os.File) string {
	if f != nil {
		if b.spec.names == nil {
			b.spec.names = map[string]string{}
		}
		b.spec.names[path] = f.Name()
	}
	return path
}

func (b *builder) machine(c Config) {
	b.add(
		"-nodefaults", "-no-user-config", "-display", c.Devices.display(),
		"-name", "guest="+c.Name,
		"-machine", c.machineOption(),
		"-accel", c.Accel,
		"-cpu", c.cpuOption(),
		"-smp", strconv.Itoa(c.CPUs),
		"-m", size(c.Memory),
		"-S",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	)
	b.json("-object", options{"qom-type": "rng-builtin", "id": "rng0"})
	entropy := options{"driver": "virtio-rng-pci", "id": "entropy0", "rng": "rng0", "addr": slot(slotRNG)}
	if c.Agent || c.GuestAgent {
		entropy["multifunction"] = true
	}
	b.json("-device", entropy)
}

// panics adds the device by which the guest's kernel says that it crashed. QEMU leaves what
// comes then to the guest, which may be set to start again (kernel.panic, kdump); its own
// default would end the machine. There can be one such device: the user's comes first.
func (b *builder) panics(extra []string) {
	if slices.ContainsFunc(extra, func(arg string) bool { return strings.Contains(arg, "pvpanic") }) {
		return
	}
	b.add("-action", "panic=none")
	b.json("-device", options{"driver": "pvpanic", "id": "panic0"})
}

// size writes n bytes the short way: "512M", or "1000000B".
func size(n int64) string {
	if n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + "M"
	}
	return strconv.FormatInt(n, 10) + "B"
}

func slot(n int) string { return fmt.Sprintf("0x%02x", n) }

func (b *builder) channels(qmp, console *os.File) {
	b.add(
		"-chardev", "socket,id=qmp,fd="+b.file(qmp), "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=console,fd="+b.file(console), "-serial", "chardev:console",
	)
}

// ports adds those of virtio-serial. Their device shares the slot of the entropy device, which
// has a function more for it then. Port 0 is for a console.
func (b *builder) ports(c Config) {
	ports := []options{}
	if c.Agent {
		b.add("-chardev", "socket,id=agent,fd="+b.file(c.agent))
		ports = append(ports, options{"driver": "virtserialport", "bus": "serial0.0", "chardev": "agent", "name": agent.Port})
	}
	if c.GuestAgent {
		b.add("-chardev", "socket,id=guestagent,fd="+b.file(c.guestAgent))
		ports = append(ports, options{"driver": "virtserialport", "bus": "serial0.0", "chardev": "guestagent", "name": guestagent.Port})
	}
	if len(ports) == 0 {
		return
	}
	b.json("-device", options{"driver": "virtio-serial-pci", "id": "serial0", "addr": slot(slotRNG) + ".1", "max_ports": len(ports) + 1})
	for _, port := range ports {
		b.json("-device", port)
	}
}

func (b *builder) nic(i int, n NIC, firmware bool, bootIndex int) {
	netdev := NetdevID(i)
	device := options{
		"driver": n.model(), "id": NICID(i), "netdev": netdev,
		"mac": n.MAC.String(), "addr": slot(slotNIC + i),
	}
	if !firmware || n.NoROM {
		device["romfile"] = "" // no PXE: saves its start-up time, and QEMU needs no such file
	}
	if bootIndex != notBooted {
		device["bootindex"] = bootIndex
	}
	if n.MTU != 0 {
		device["host_mtu"] = n.MTU
	}
	if n.Bare {
		delete(device, "netdev")
		b.json("-device", device)
		return
	}
	backend := options{"type": "tap", "id": netdev}
	switch len(n.Taps) {
	case 0:
		backend["type"] = "user"
	case 1:
		backend["fd"] = b.files(n.Taps)
	default:
		backend["fds"] = b.files(n.Taps)
		device["mq"] = true
		device["vectors"] = 2*len(n.Taps) + 2 // a pair per queue, configuration, control
	}
	if len(n.VHost) > 0 {
		backend["vhost"] = true
		option := "vhostfds"
		if len(n.VHost) == 1 {
			option = "vhostfd"
		}
		backend[option] = b.files(n.VHost)
	}
	b.json("-netdev", backend)
	b.json("-device", device)
}

// NICID is the id of the device of the NIC that is the i-th of a Config, also below QEMU's
// /machine/peripheral.
func NICID(i int) string { return fmt.Sprintf("nic%d", i) }

// NetdevID is the id of what backs the NIC that is the i-th of a Config.
func NetdevID(i int) string { return fmt.Sprintf("net%d", i) }

// boot passes kernel and initrd, which QEMU opens by path and not by fdset.
func (b *builder) boot(c Config) {
	if c.Kernel == nil {
		return
	}
	b.add("-kernel", b.named("/proc/self/fd/"+b.file(c.Kernel), c.Kernel))
	if c.Initrd != nil {
		b.add("-initrd", b.named("/proc/self/fd/"+b.file(c.Initrd), c.Initrd))
	}
	b.add("-append", c.Cmdline)
}

// openedPath is how QEMU calls a file that it was given.
var openedPath = pattern.Of(`/(?:dev/fdset|proc/self/fd)/\d+`)

// Readable puts files' names into QEMU's own words.
func (s Spec) Readable(words string) string {
	return openedPath().ReplaceAllStringFunc(words, func(path string) string { return cmp.Or(s.names[path], path) })
}

// Behind adds an option that keeps QEMU from looking at its files until the other
// end of the pipe is closed: QEMU reads a secret, which nothing uses, to its end while
// it begins to build the machine, before it comes to accelerator, network and
// devices (qemu_create_early_backends in softmmu/vl.c).
func (s Spec) Behind(gate *os.File) Spec {
	fd := firstFD + len(s.Files)
	option := fmt.Sprintf(`{"qom-type":"secret","id":"gate","file":"/proc/self/fd/%d"}`, fd)
	return Spec{Args: append(slices.Clone(s.Args), "-object", option), Files: append(slices.Clone(s.Files), gate), names: s.names}
}

// String returns the arguments quoted for a POSIX shell.
func (s Spec) String() string { return legible.Words(s.Args) }
