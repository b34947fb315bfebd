package warm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/firstboot/gather"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// version is that of what this package asks of a guest. Guests of another one are not found.
const version = 1

// Cannot returns why VMs of the profile cannot begin from a booted guest, "" if they can.
func Cannot(p *profiles.Profile) string {
	switch {
	case p.Image == (profiles.Image{}):
		return "it has no image: what was booted for others is kept with an image"
	case gather.Ignition(p):
		return "its guest is set up by Ignition, once, before its system starts; a guest that cloud-init sets up can be told later who it is"
	case len(p.Shares) > 0:
		return "it shares folders with the host, and what its guest and virtiofsd agreed on about open files cannot be saved"
	case p.TPM:
		return "it has a TPM, whose keys would be those of all that begin from it"
	}
	for _, d := range p.Disks {
		if !d.ReadOnly {
			return fmt.Sprintf("it writes to disk %q besides its image's: two VMs cannot share what the guest knows of that", d.File)
		}
	}
	return ""
}

// Began reports whether the VM has a disk of its own: a guest that knows who it is.
func Began(p *profiles.Profile, o hardware.Options) bool {
	dir, err := vmdir.New(o.VMs, p.Name)
	if err != nil {
		return false
	}
	began := false
	err = o.User.Do(func() error {
		r, err := dir.Load()
		if err == nil && !r.Unnamed {
			_, err = os.Stat(dir.File(diskFile))
			began = err == nil
		}
		return err
	})
	return err == nil && began
}

// Profile returns the profile of the VM that is booted for those of p.
func Profile(p *profiles.Profile, name string) *profiles.Profile {
	booted := *p
	booted.Name = name
	booted.NICs = append([]profiles.NIC(nil), p.NICs...)
	for i := range booted.NICs {
		booted.NICs[i].MAC, booted.NICs[i].Address, booted.NICs[i].Address6 = nil, netip.Addr{}, netip.Addr{}
	}
	if p.Guest != nil {
		guest := *p.Guest
		guest.Hostname = ""
		booted.Guest = &guest
	}
	return &booted
}

// keyed is what a booted guest is found by: all that it depends on, but for what is each VM's own.
type keyed struct {
	Version  int
	Image    string // digest
	Size     int64
	Settings firstboot.Settings
	Args     []string // of QEMU
	Files    []string // stamps of QEMU, kernel, initrd, firmware, disks
	CPU      string   // of the host, under KVM
}

// Key returns the name of the guest that VMs of the profile, with further QEMU arguments, can
// begin from. binary is QEMU's path.
func Key(p *profiles.Profile, image images.Local, o hardware.Options, binary string, extra []string) (string, error) {
	settings, err := hardware.SharedSettings(p, image, o)
	if err != nil {
		return "", err
	}
	c := qemu.FirstTry(saved.Anyone(hardware.Config(p, nil, nil, nics.Plan(p, func(string) int { return 0 }))))
	c.Extra = extra
	k := keyed{Version: version, Image: image.Digest, Size: p.Size, Settings: settings, CPU: saved.HostCPU(c.Accel)}
	if k.Args, err = saved.Arguments(c); err != nil {
		return "", err
	}
	paths := []string{binary, p.Boot.Kernel, p.Boot.Initrd}
	firmware, err := hardware.FindFirmware(p, o)
	if err != nil {
		return "", err
	}
	if firmware != nil {
		paths = append(paths, firmware.Code.Path, firmware.Vars.Path)
	}
	for _, d := range p.Disks {
		paths = append(paths, d.File)
	}
	err = o.User.Do(func() error {
		for _, path := range paths {
			stamp, err := stampOf(path)
			if err != nil {
				return err
			}
			k.Files = append(k.Files, stamp)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(k)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:16], err
}

// stampOf returns what changes when a file does. "" is no file.
func stampOf(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "look at", Path: path, Err: err}
	}
	return fmt.Sprintf("%s %d:%d %d bytes %d", path, st.Dev, st.Ino, st.Size, st.Mtim.Nano()), nil
}
