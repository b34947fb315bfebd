package hardware

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/internal/swtpm"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/firmware"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// uefi is a VM's UEFI firmware, open.
type uefi struct {
	firmware.Firmware
	code, vars *os.File
}

// hasUEFI reports whether the VM starts by UEFI firmware.
func hasUEFI(p *profiles.Profile) bool {
	return p.Boot.Firmware == profiles.UEFI || p.Boot.Firmware == profiles.UEFISecure
}

// VarsName returns the name of the file with a VM's variables in its directory. Those for
// secure boot are others: in variables without keys it would be off, and nothing would say so.
func VarsName(f profiles.Firmware) string {
	if f == profiles.UEFISecure {
		return "vars-secure.fd"
	}
	return "vars.fd"
}

// FindFirmware finds the UEFI firmware that a run of the profile starts, with the rights of
// the user; nil for a VM without. The error is a *program.Lack.
func FindFirmware(p *profiles.Profile, o Options) (*firmware.Firmware, error) {
	if !hasUEFI(p) {
		return nil, nil
	}
	var found firmware.Firmware
	err := o.User.Do(func() (err error) {
		want := firmware.Want{Machine: cmp.Or(p.Machine, "q35"), Secure: p.Boot.Firmware == profiles.UEFISecure}
		found, err = firmware.Find(firmware.Dirs(o.configHome()), want)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find firmware %q: %w", p.Boot.Firmware, err)
	}
	return &found, nil
}

// configHome is the user's ~/.config, "" for a user without a home.
func (o Options) configHome() string {
	getenv := o.Getenv
	if getenv == nil {
		return ""
	}
	if xdg := getenv("XDG_CONFIG_HOME"); o.User == nil && filepath.IsAbs(xdg) {
		return xdg
	}
	if home := o.User.Home(getenv); home != "" {
		return filepath.Join(home, ".config")
	}
	return ""
}

// openFirmware opens the VM's UEFI firmware, if it has any, and makes its variables where
// they are missing.
func (f *Files) openFirmware(p *profiles.Profile) error {
	found, err := FindFirmware(p, f.o)
	if err != nil || found == nil {
		return err
	}
	u := &uefi{Firmware: *found}
	if u.code, err = f.open("UEFI firmware", found.Code.Path, os.O_RDONLY); err != nil {
		return err
	}
	err = f.o.User.Do(func() (err error) {
		u.vars, err = firmware.OpenVars(f.Kept.File(VarsName(p.Boot.Firmware)), u.Firmware)
		return err
	})
	if err != nil {
		return err
	}
	f.opened = append(f.opened, u.vars)
	f.uefi = u
	return nil
}

// FirmwarePlan is the UEFI firmware and the TPM that a run starts. It is zero without.
type FirmwarePlan struct {
	Firmware string `json:"firmware,omitempty"` // path of the code
	Vars     string `json:"vars,omitempty"`     // path of the VM's variables
	TPM      string `json:"tpm,omitempty"`      // path of the TPM's state
	Missing  bool   `json:"missing,omitempty"`  // a run makes Vars

	found *firmware.Firmware
}

// PlanFirmware tells what firmware and TPM a run would start. It changes nothing. The error is
// the one by which a run would be refused.
func PlanFirmware(p *profiles.Profile, o Options) (plan FirmwarePlan, err error) {
	if !hasUEFI(p) && !p.TPM {
		return plan, nil
	}
	dir, err := vmdir.New(o.VMs, p.Name)
	if err != nil {
		return plan, err
	}
	if p.TPM {
		plan.TPM = dir.File("tpm")
		if _, err := swtpm.Find(o.path()); err != nil {
			return plan, err
		}
	}
	if plan.found, err = FindFirmware(p, o); err != nil || plan.found == nil {
		return plan, err
	}
	plan.Firmware, plan.Vars = plan.found.Code.Path, dir.File(VarsName(p.Boot.Firmware))
	err = o.User.Do(func() error {
		err := firmware.CheckVars(plan.Vars, *plan.found)
		if errors.Is(err, fs.ErrNotExist) {
			plan.Missing = true
			return nil
		}
		return err
	})
	return plan, err
}

// String returns a line for each, for example "firmware /usr/share/OVMF/OVMF_CODE_4M.fd,
// variables /v/web/vars.fd: made by a run".
func (f FirmwarePlan) String() string {
	var lines []string
	if f.Firmware != "" {
		line := "firmware " + f.Firmware + ", variables " + f.Vars
		if f.Missing {
			line += ": made by a run"
		}
		lines = append(lines, line)
	}
	if f.TPM != "" {
		lines = append(lines, "TPM by swtpm, state in "+f.TPM)
	}
	return strings.Join(lines, "\n")
}

// Files stands for the files of a plan in Config, with what PlanDisks says.
func (f FirmwarePlan) Files(list []DiskPlan) *Files {
	files := &Files{found: f.found}
	if len(list) > 0 && list[0].Below != "" { // the image's
		files.Disks = []Disk{{Below: planned}}
	}
	return files
}

// flash returns the firmware as QEMU gets it, nil for SeaBIOS.
func (f *Files) flash(p *profiles.Profile) *machine.Firmware {
	switch {
	case !hasUEFI(p):
		return nil
	case f.uefi == nil: // planned only
		raw := "raw"
		m := &machine.Firmware{Code: planned, Vars: planned, CodeFormat: raw, VarsFormat: raw, SMM: p.Boot.Firmware == profiles.UEFISecure}
		if found := f.found; found != nil {
			m.CodeFormat, m.VarsFormat, m.SMM = found.Code.Format, found.Vars.Format, found.SMM
		}
		return m
	}
	u := f.uefi
	return &machine.Firmware{Code: u.code, Vars: u.vars, CodeFormat: u.Code.Format, VarsFormat: u.Vars.Format, SMM: u.SMM}
}
