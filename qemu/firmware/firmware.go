// Package firmware finds UEFI firmware for a machine, and keeps its variables sound.
//
// A distribution describes each firmware that it ships by a JSON file, a descriptor, of
// the form that QEMU defines (docs/interop/firmware.json). Find reads the descriptors and
// chooses. OpenVars opens a VM's own variables, which it makes of the firmware's template
// where there are none, and refuses those that are damaged, or another firmware's: QEMU
// would end with a word about sizes, and the firmware hang without one.
package firmware

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/qemu/program"
)

// Want says what firmware is needed.
type Want struct {
	Machine string // QEMU's name, an alias such as "q35" too
	Secure  bool   // secure boot, with keys enrolled: it checks what it boots
}

// Firmware is UEFI firmware in two flash chips.
type Firmware struct {
	Descriptor string // path
	Code       File   // the same for all VMs, only read
	Vars       File   // the template of a VM's own variables
	SMM        bool   // the machine needs system management mode, and the variables are closed to the guest
}

// File is a file with its format, "raw" or "qcow2".
type File struct {
	Path   string `json:"filename"`
	Format string `json:"format"`
}

// Dirs returns where descriptors are, the most important first: the user's, the
// administrator's, the distribution's. configHome is the user's ~/.config, or "".
func Dirs(configHome string) []string {
	dirs := []string{"/etc/qemu/firmware", "/usr/share/qemu/firmware"}
	if configHome != "" {
		dirs = slices.Insert(dirs, 0, filepath.Join(configHome, "qemu/firmware"))
	}
	return dirs
}

// maxDescriptor bounds a descriptor, in bytes. Debian's have 1 KiB.
const maxDescriptor = 64 << 10

// descriptor is the part of a descriptor that Find looks at.
type descriptor struct {
	path       string
	Interfaces []string `json:"interface-types"`
	Mapping    struct {
		Device     string `json:"device"`
		Mode       string `json:"mode"` // of a flash: "split" or ""; others have no variables of their own
		Executable File   `json:"executable"`
		Template   File   `json:"nvram-template"`
	} `json:"mapping"`
	Targets []struct {
		Architecture string   `json:"architecture"`
		Machines     []string `json:"machines"`
	} `json:"targets"`
	Features []string `json:"features"`
}

// Find returns the first firmware that suits, in the order of the descriptors' names. A
// descriptor hides one of the same name in a later directory, and an empty one only hides.
// Without firmware that suits, the error is a *program.Lack; it tells of descriptors that
// cannot be read.
func Find(dirs []string, want Want) (Firmware, error) {
	paths, errs := list(dirs)
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		d, err := read(paths[name])
		if err == nil && d != nil && d.suits(want) {
			if err = d.present(); err == nil {
				return d.firmware(), nil
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return Firmware{}, lack(want, errors.Join(errs...))
}

// list returns the descriptors' paths by their names.
func list(dirs []string) (map[string]string, []error) {
	paths := map[string]string{}
	var errs []error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			if _, hidden := paths[e.Name()]; !hidden && strings.HasSuffix(e.Name(), ".json") {
				paths[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	return paths, errs
}

// read returns nil for an empty descriptor.
func read(path string) (*descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDescriptor+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxDescriptor:
		return nil, fmt.Errorf("%s is longer than %d bytes", path, maxDescriptor)
	case len(b) == 0:
		return nil, nil
	}
	d := &descriptor{path: path}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// suits reports whether the descriptor is of UEFI firmware in two flash chips, for the
// machine, and with what is wanted. Without secure boot it is one without keys: those would
// refuse to boot what is not signed.
func (d *descriptor) suits(want Want) bool {
	m := d.Mapping
	if !slices.Contains(d.Interfaces, "uefi") || m.Device != "flash" || m.Mode != "" && m.Mode != "split" {
		return false
	}
	if !known(m.Executable) || !known(m.Template) || !d.targets(want.Machine) {
		return false
	}
	has := func(feature string) bool { return slices.Contains(d.Features, feature) }
	if want.Secure {
		return has("secure-boot") && has("enrolled-keys")
	}
	return !has("enrolled-keys") && !has("requires-smm")
}

func known(f File) bool {
	return filepath.IsAbs(f.Path) && (f.Format == "raw" || f.Format == "qcow2")
}

// targets reports whether the firmware runs on the machine. An alias stands for each version
// of the machine: any pattern that matches the oldest one that qnet supports will do.
func (d *descriptor) targets(machine string) bool {
	oldest := fmt.Sprintf("-%d.%d", program.MinVersion.Major, program.MinVersion.Minor)
	switch machine {
	case "q35":
		machine = "pc-q35" + oldest
	case "pc":
		machine = "pc-i440fx" + oldest
	}
	for _, t := range d.Targets {
		if t.Architecture == "x86_64" && slices.ContainsFunc(t.Machines, func(glob string) bool {
			ok, err := filepath.Match(glob, machine)
			return err == nil && ok
		}) {
			return true
		}
	}
	return false
}

// present returns an error if one of the files is missing: the package may be half removed.
func (d *descriptor) present() error {
	for _, f := range []File{d.Mapping.Executable, d.Mapping.Template} {
		if _, err := os.Stat(f.Path); err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
	}
	return nil
}

func (d *descriptor) firmware() Firmware {
	return Firmware{
		Descriptor: d.path, Code: d.Mapping.Executable, Vars: d.Mapping.Template, SMM: slices.Contains(d.Features, "requires-smm"),
	}
}

func lack(want Want, err error) error {
	what := fmt.Sprintf("no UEFI firmware for machine %q is installed", want.Machine)
	remedy := "install it: apt install ovmf (Fedora, Arch: edk2-ovmf; openSUSE: qemu-ovmf-x86_64)"
	if want.Secure {
		what = fmt.Sprintf("no UEFI firmware with secure boot and enrolled keys for machine %q is installed", want.Machine)
		remedy = `install it: apt install ovmf (Fedora: edk2-ovmf; openSUSE: qemu-ovmf-x86_64; Arch has none with keys); it runs on machine "q35"`
	}
	return &program.Lack{What: what, Remedy: remedy, Err: err}
}
