package program

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// ErrLack is what a Lack is.
var ErrLack = errors.New("the host lacks something that QEMU needs")

// Lack tells what the host lacks for QEMU to run a machine.
type Lack struct {
	What   string // such as `QEMU's file "efi-virtio.rom" is not installed`
	Remedy string // what to do about it
	Err    error  // the cause as QEMU or the kernel says it; may be nil
}

// Error returns what is lacking, and the cause.
func (e *Lack) Error() string {
	if e.Err == nil {
		return e.What
	}
	return e.What + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Lack) Unwrap() error { return e.Err }

// Is reports whether the target is ErrLack.
func (e *Lack) Is(target error) bool { return target == ErrLack }

// Hint returns the remedy.
func (e *Lack) Hint() string { return e.Remedy }

// sign is a text of QEMU's by which a lack is recognized, and its words. "%s" in these is
// what the text's group matched. QEMU gives no other sign: it exits with status 1.
type sign struct {
	text         string
	what, remedy string
}

const (
	installAll    = "install all of QEMU: apt install qemu-system-x86 (Fedora: qemu-kvm; Arch: qemu-full)"
	installModule = "install QEMU's modules: apt install qemu-system-gui qemu-block-extra, and qemu-system-modules-spice and -opengl where there are such packages (Fedora: qemu-kvm; Arch: qemu-full)"
)

// signs are searched in this order: the first cause before what follows from it.
var signs = []sign{
	{`error while loading shared libraries: ([^:\s]+)`, "the program lacks the library %s", "install QEMU again: apt install --reinstall qemu-system-x86 (or the package that you have it from)"},
	{`module (\S+) not found`, "QEMU's module %s is not installed", installModule},
	{`[Ff]ailed to open module:? (\S+)`, "QEMU's module %s cannot be loaded", installModule},
	{`missing object type '([^']+)'`, "QEMU's module for %s is not installed", installModule},
	{`Display '([^']+)' is not available`, "this QEMU has no display %s", installModule},
	{`failed to find romfile "([^"]+)"`, "QEMU's file %s is not installed", ""},
	{`could not load PC BIOS '([^']+)'`, "QEMU's file %s is not installed", ""},
	{`[Cc]ould not open option rom '((?:linuxboot|multiboot|pvh)[^']*)'`, "QEMU's file %s is not installed", ""},
	{`unsupported machine type(?:: "([^"]+)")?`, "this QEMU has no such machine %s", `machine = "q35" in the profile, or: ` + installAll},
	{`'([^']+)' is not a valid device model name`, "this QEMU has no device %s", `another model in the profile, such as virtio-net-pci, or: ` + installAll},
	{`unable to find CPU model '([^']+)'`, "this QEMU has no CPU model %s", `qemu-system-x86_64 -cpu help lists them; or leave cpu out of the profile`},
	{`CPU model '([^']+)' requires KVM`, "the CPU model %s needs KVM", `leave cpu out of the profile; "sudo qnet doctor" says why KVM does not work`},
	{`network backend '([^']+)' is not compiled`, "this QEMU has no network backend %s", `mode = "nat" in the profile, with sudo; or: ` + installAll},
	{`Parameter '?type'? (?:does not accept value|expects a netdev backend type).*(user)`, "this QEMU has no network backend %s", `mode = "nat" in the profile, with sudo; or: ` + installAll},
	{`cannot set up guest memory '([^']+)': Cannot allocate memory`, "the host has not enough memory for the guest's (%s)", "a smaller memory in the profile"},
	{`(failed to install seccomp|seccomp support is disabled|-sandbox: There is no option group)`, "QEMU cannot install its sandbox (%s)", "a QEMU that has seccomp; in a container, one that may use seccomp(2)"},
	{`Could not access KVM kernel module: ([^\n]+)`, "KVM does not work (%s)", `accel = "auto" in the profile falls back to TCG; "sudo qnet doctor" says why KVM does not work`},
}

// compiled are the texts, in the order of signs. They are needed after failures only.
var compiled = sync.OnceValue(func() []*regexp.Regexp {
	list := make([]*regexp.Regexp, len(signs))
	for i, s := range signs {
		list[i] = regexp.MustCompile(s.text)
	}
	return list
})

// Explain wraps err in a *Lack if QEMU's last words say that something is lacking, and else
// returns err as it is.
func Explain(err error, words string) error {
	if lack := lackOf(words); lack != nil && err != nil {
		lack.Err = err
		return lack
	}
	return err
}

// Unbootable returns a *Lack if a QEMU that runs has said that it goes without a file that
// it needs to boot a kernel: the guest's firmware would find nothing to boot.
func Unbootable(words string) error {
	if lack := lackOf(words); lack != nil && strings.Contains(words, "option rom") {
		return lack
	}
	return nil
}

func lackOf(words string) *Lack {
	for i, r := range compiled() {
		m := r.FindStringSubmatch(words)
		if m == nil {
			continue
		}
		s := signs[i]
		lack := &Lack{What: strings.TrimSpace(fmt.Sprintf(s.what, m[1])), Remedy: s.remedy}
		if s.remedy == "" {
			lack.Remedy = "install it: " + packageOf(filepath.Base(m[1]))
		}
		return lack
	}
	return nil
}

// packageOf says how to install one of QEMU's files, on Debian and others. Each
// distribution divides QEMU in its own way.
func packageOf(file string) string {
	switch {
	case strings.HasPrefix(file, "efi-"), strings.HasPrefix(file, "pxe-"):
		return "apt install ipxe-qemu (Fedora: ipxe-roms-qemu; Arch: qemu-base)"
	case strings.HasPrefix(strings.ToUpper(file), "OVMF"), strings.Contains(file, "edk2"):
		return "apt install ovmf (Fedora, Arch: edk2-ovmf)"
	case strings.HasPrefix(file, "bios"), strings.HasPrefix(file, "vgabios"):
		return "apt install seabios (Fedora: seabios-bin, seavgabios-bin; Arch: qemu-system-x86-firmware)"
	}
	return "apt install qemu-system-data (Fedora: qemu-common; Arch: qemu-system-x86-firmware)"
}
