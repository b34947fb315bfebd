package machine

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/pattern"
)

// Accelerators, as QEMU calls them. AccelAuto leaves the choice to
// qemu.Launch; [Command] takes the other two only.
const (
	AccelAuto = "auto"
	AccelKVM  = "kvm"
	AccelTCG  = "tcg"
)

// Slots of the root PCI bus. Fixed ones keep the guest's interface names when
// a disk or another NIC is added.
const (
	slotRNG  = 0x02
	slotDisk = 0x03
	slotNIC  = 0x10
	maxDisks = slotNIC - slotDisk
	maxNICs  = 0x1f - slotNIC // 0x1f is q35's own

	minMTU = 68 // of IPv4 (RFC 791)
	maxMTU = 65535

	// MaxQueues is how many queues a NIC may have.
	MaxQueues = 8
	// VirtioNet is the NIC that takes several.
	VirtioNet = "virtio-net-pci"
)

var (
	names    = pattern.Of(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)
	models   = []string{VirtioNet, "e1000", "e1000e", "rtl8139"}
	accels   = []string{AccelKVM, AccelTCG}
	reserved = []string{"help", "none"} // words that QEMU takes for something else than a name
)

// Config says what machine to build. Files are opened by the caller.
type Config struct {
	Binary  string // path of qemu-system-x86_64, see program.Find
	Name    string // shown by QEMU, for example "web"
	Memory  int64  // bytes
	CPUs    int    // at least 1
	Accel   string // "kvm" or "tcg"; "auto" for qemu.Launch
	CPU     string // QEMU's model name; "" is host under KVM, and under TCG max but for what slows it
	Machine string // "" is q35

	Kernel  *os.File // nil boots the firmware
	Initrd  *os.File // only with Kernel
	Cmdline string   // of the kernel, any text

	UEFI *Firmware // nil is SeaBIOS
	Boot Boot

	Disks   []Disk
	NICs    []NIC
	Shares  []Share
	Devices Devices

	Strings []*os.File // of SMBIOS type 11, which the guest's system reads, one a file
	Blobs   []Blob
	Extra   []string // further QEMU arguments, given last and as they are

	Agent      bool // the guest has a port by which it does things for its host, see internal/agent
	GuestAgent bool // the guest has a port for QEMU's guest agent, see internal/guestagent
	Incoming   bool // the guest is loaded over QMP and does not boot, see states.Load

	agent, guestAgent *os.File // QEMU's ends of both; set by GiveAgent and GiveGuestAgent

	// Stat returns what the user who opened a file saw: FUSE may bar root. nil is File.Stat.
	Stat func(*os.File) (fs.FileInfo, error)

	tpm *os.File // QEMU's end of the connection; made by Prepare
}

func (c Config) stat(f *os.File) (fs.FileInfo, error) {
	if c.Stat == nil {
		return f.Stat()
	}
	return c.Stat(f)
}

// NIC is a network card, backed either by taps or by QEMU's user network.
type NIC struct {
	Model string // "" is virtio-net-pci
	MAC   net.HardwareAddr
	Taps  []*os.File // one per queue
	VHost []*os.File // of /dev/vhost-net, one per queue: the host's kernel moves the packets; none leaves that to QEMU
	User  bool       // QEMU's own network stack, which needs no tap
	Bare  bool       // no cable: neither of these, for a look whether QEMU has the model
	NoROM bool       // the firmware cannot boot by it, and takes less time; so it is with a Kernel
	// MTU is in bytes, 68 to 65535. A virtio-net-pci tells it to the guest's driver, which
	// begins with it and takes no larger one (VIRTIO_NET_F_MTU in the virtio
	// specification, 5.1.3). 0 leaves it to the driver.
	MTU int
}

// ConfigError says which part of a [Config] is wrong: the user's mistake, not
// a failure of the host or of QEMU.
type ConfigError struct {
	Object string // for example `disk "debian.qcow2"`
	Msg    string
}

// Error returns "object: what is wrong with it".
func (e *ConfigError) Error() string { return e.Object + ": " + e.Msg }

func badConfig(object, format string, args ...any) error {
	return &ConfigError{Object: object, Msg: fmt.Sprintf(format, args...)}
}

// validate checks everything that can be checked without looking at files.
func (c Config) validate() error {
	if err := c.validateMachine(); err != nil {
		return err
	}
	for _, part := range []func() error{c.validateBoot, c.validateFirmware, c.Devices.validate, c.validateTold} {
		if err := part(); err != nil {
			return err
		}
	}
	if len(c.Disks) > maxDisks {
		return badConfig("disks", "got %d, at most %d fit", len(c.Disks), maxDisks)
	}
	for i, d := range c.Disks {
		if err := d.validate(d.object(i)); err != nil {
			return err
		}
	}
	if err := c.validateShares(); err != nil {
		return err
	}
	if len(c.NICs) > maxNICs {
		return badConfig("NICs", "got %d, at most %d fit", len(c.NICs), maxNICs)
	}
	for i, n := range c.NICs {
		if err := n.validate(fmt.Sprintf("NIC %d", i)); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) validateMachine() error {
	for _, f := range []struct{ object, value string }{
		{"name", c.Name}, {"CPU model", c.cpu()}, {"machine", c.machine()},
	} {
		if !names().MatchString(f.value) || f.object != "name" && slices.Contains(reserved, f.value) {
			return badConfig(f.object, "%q is not a name of letters, digits, dots, dashes and underscores, 1 to 64 long", f.value)
		}
	}
	switch {
	case !slices.Contains(accels, c.Accel):
		return badConfig("accelerator", "%q is not one of %s", c.Accel, strings.Join(accels, ", "))
	case c.Memory < 1<<20:
		return badConfig("memory", "%d bytes are less than 1 MiB", c.Memory)
	case c.CPUs < 1:
		return badConfig("CPUs", "got %d, want at least 1", c.CPUs)
	}
	return nil
}

func (c Config) validateBoot() error {
	switch {
	case c.Kernel == nil && c.Initrd != nil:
		return badConfig("initrd", "needs a kernel")
	case c.Kernel == nil && c.Cmdline != "":
		return badConfig("kernel command line", "needs a kernel")
	case strings.Contains(c.Cmdline, "\x00"):
		return badConfig("kernel command line", "contains a NUL byte")
	}
	for _, arg := range c.Extra {
		if strings.Contains(arg, "\x00") {
			return badConfig("QEMU argument", "%q contains a NUL byte", arg)
		}
	}
	return nil
}

func (n NIC) validate(object string) error {
	switch {
	case !slices.Contains(models, n.model()):
		return badConfig(object, "model %q is not one of %s", n.Model, strings.Join(models, ", "))
	case len(n.MAC) != 6 || n.MAC[0]&1 != 0:
		return badConfig(object, "%q is not a unicast Ethernet address", n.MAC.String())
	case n.User == (len(n.Taps) > 0) && !n.Bare:
		return badConfig(object, "needs either taps or the user network")
	case len(n.Taps) > MaxQueues:
		return badConfig(object, "%d queues, at most %d", len(n.Taps), MaxQueues)
	case len(n.VHost) > 0 && (len(n.VHost) != len(n.Taps) || n.model() != models[0]):
		return badConfig(object, "model %q with %d taps and %d vhost files: vhost is virtio's, with one for each tap", n.Model, len(n.Taps), len(n.VHost))
	case n.MTU != 0 && (n.MTU < minMTU || n.MTU > maxMTU || n.model() != VirtioNet):
		return badConfig(object, "model %q with MTU %d: only virtio-net-pci takes one, from %d to %d", n.Model, n.MTU, minMTU, maxMTU)
	case len(n.Taps) > 1 && n.model() != models[0]:
		return badConfig(object, "model %q has a single queue, got %d taps", n.Model, len(n.Taps))
	}
	return nil
}

func (n NIC) model() string {
	if n.Model == "" {
		return models[0]
	}
	return n.Model
}

func (c Config) machine() string {
	if c.Machine == "" {
		return "q35"
	}
	return c.Machine
}

func (c Config) cpu() string {
	switch {
	case c.CPU != "":
		return c.CPU
	case c.Accel == AccelKVM:
		return "host"
	default:
		return "max"
	}
}

// slowUnderTCG are features of max that tell a guest to copy by REP MOVSB, which
// TCG runs byte by byte (target/i386/tcg/translate.c). Without them Linux copies by
// REP MOVSQ, and receives by TCP twice as fast: see docs/performance.md.
const slowUnderTCG = ",erms=off,fsrm=off"

// cpuOption is the value of -cpu. It leaves a model that the user chose as it is.
func (c Config) cpuOption() string {
	if c.CPU == "" && c.Accel == AccelTCG {
		return c.cpu() + slowUnderTCG
	}
	return c.cpu()
}

// UnderTCG is the config without KVM, and without vhost, which saves TCG nothing.
func UnderTCG(c Config) Config {
	c.Accel = AccelTCG
	c.NICs = slices.Clone(c.NICs)
	for i := range c.NICs {
		c.NICs[i].VHost = nil
	}
	if c.CPU == "host" {
		c.CPU = "" // exists under KVM only
	}
	return c
}
