package hardware

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/vmuser"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/firmware"
	"github.com/qnet-vm/qnet/qemu/program"
)

// uefiProfile is a VM with a disk, or without one for "".
func uefiProfile(kind profiles.Firmware, disk string) *profiles.Profile {
	p := &profiles.Profile{
		Name: "u", Path: "/p/u.toml", Allowed: []string{os.TempDir()}, Memory: 256 << 20, CPUs: 1, Accel: profiles.AccelTCG, Machine: "q35",
		Boot: profiles.Boot{Firmware: kind},
	}
	if disk != "" {
		p.Disks = []profiles.Disk{{File: disk, Format: "raw", ReadOnly: true, Type: profiles.HardDisk, Bus: profiles.VirtIO}}
	}
	return p
}

// options keeps the files of VMs in a directory of the test.
func options(t *testing.T) Options {
	t.Helper()
	return Options{VMs: filepath.Join(t.TempDir(), "vms"), Getenv: os.Getenv}
}

// bootable makes a disk from which UEFI boots the first program; others lie beside it.
func bootable(t *testing.T, programs map[string]string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 16<<20)); err != nil {
		t.Fatal(err)
	}
	commands := [][]string{{"mformat", "-i", disk, "::"}, {"mmd", "-i", disk, "::/EFI", "::/EFI/BOOT"}}
	for name, from := range programs {
		commands = append(commands, []string{"mcopy", "-i", disk, lab.Module(from), "::/EFI/BOOT/" + name})
	}
	for _, c := range commands {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", c, err, out)
		}
	}
	return disk
}

// boot starts the VM, as a run does, and reads its console until it has one of the texts,
// which it returns.
func boot(t *testing.T, p *profiles.Profile, o Options, texts ...string) string {
	t.Helper()
	binary, err := program.Find(os.Getenv("PATH"), "")
	if err != nil {
		t.Fatal(err)
	}
	files, err := Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	c := Config(p, nil, files, nil)
	c.Binary = binary
	vm, err := qemu.StartAuto(t.Context(), c, qemu.StartOptions{Credential: vmuser.Credential(o.User, c.Name)})
	if err = files.Explain(err); err != nil {
		t.Fatal(err)
	}
	files.Close()
	defer func() {
		_ = syscall.Kill(vm.PID(), syscall.SIGKILL)
		vm.Wait()
		_ = vm.Console().Close()
		if err := files.Release(); err != nil {
			t.Error(err)
		}
	}()
	vm.Console().SetReadDeadline(time.Now().Add(4 * time.Minute))
	var seen strings.Builder
	for b := make([]byte, 256); ; {
		n, err := vm.Console().Read(b)
		seen.Write(b[:n])
		for _, text := range texts {
			if strings.Contains(seen.String(), text) {
				return text
			}
		}
		if err != nil {
			t.Fatalf("%v; the console has %q", err, seen.String())
		}
	}
}

// Secure boot boots what Microsoft's keys signed, and nothing else; without it UEFI boots
// anything.
func TestSecureBoot(t *testing.T) {
	const unpacked = ".cache/secureboot/usr/lib/"
	const shim, grub = unpacked + "shim/shimx64.efi.signed", unpacked + "grub/x86_64-efi-signed/grubx64.efi.signed"
	lab.Require(t, lab.QEMU, lab.OVMF, lab.Program("swtpm"), lab.Program("mcopy"), lab.File(shim, "secureboot"), lab.File(grub, "secureboot"))
	const refused, ran = "Access Denied", "GRUB"
	unknown := bootable(t, map[string]string{"BOOTX64.EFI": grub}) // signed by Debian, whom only the shim knows
	signed := bootable(t, map[string]string{"BOOTX64.EFI": shim, "grubx64.efi": grub})
	for _, c := range []struct {
		name string
		kind profiles.Firmware
		disk string
		want string
	}{
		{"off", profiles.UEFI, unknown, ran},
		{"refuses", profiles.UEFISecure, unknown, refused},
		{"signed", profiles.UEFISecure, signed, ran},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(t)
			p := uefiProfile(c.kind, c.disk)
			p.TPM = c.disk == signed
			if got := boot(t, p, o, refused, ran); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			dir := filepath.Join(o.VMs, "u")
			vars, err := os.ReadFile(filepath.Join(dir, VarsName(c.kind)))
			if err != nil || !strings.Contains(string(vars), "B\x00o\x00o\x00t\x000\x000\x000\x00") {
				t.Errorf("the firmware has stored no boot entry: %v", err)
			}
			if state, _ := filepath.Glob(dir + "/tpm/tpm2-*"); (len(state) > 0) != p.TPM {
				t.Errorf("the TPM has the state %q", state)
			}
		})
	}
}

// hello is the boot sector of a CD-ROM: it writes a word to the console (int 10h, function
// 0Eh), and stops.
var hello = append([]byte{
	0x31, 0xc0, 0x8e, 0xd8, 0xfc, 0x31, 0xdb, // ds = 0, bx = 0
	0xbe, 0x18, 0x7c, 0xb4, 0x0e, 0xac, 0x84, 0xc0, 0x74, 0x04, 0xcd, 0x10, 0xeb, 0xf7, // each character
	0xf4, 0xeb, 0xfd, // hlt
}, "from the CD-ROM\x00"...)

// An empty disk is passed over, so that an installer starts; with an order nothing else is
// tried.
func TestBootOrderOfSeaBIOS(t *testing.T) {
	lab.Require(t, lab.QEMU, lab.Program("genisoimage"))
	dir := t.TempDir()
	iso, disk := filepath.Join(dir, "cd.iso"), filepath.Join(dir, "disk.raw")
	if err := errors.Join(os.Mkdir(dir+"/cd", 0o700), os.WriteFile(dir+"/cd/boot", append(hello, make([]byte, 2048)...), 0o600), os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("genisoimage", "-quiet", "-b", "boot", "-no-emul-boot", "-boot-load-size", "4", "-o", iso, dir+"/cd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const cd, none = "from the CD-ROM", "No bootable device"
	for _, c := range []struct {
		order []string
		want  string
	}{
		{nil, cd},
		{[]string{profiles.BootCDROM, profiles.BootDisk}, cd},
		{[]string{profiles.BootDisk}, none},
	} {
		p := uefiProfile(profiles.BIOS, "")
		p.Boot.Order = c.order
		p.Disks = []profiles.Disk{
			{File: disk, Format: "raw", Type: profiles.HardDisk, Bus: profiles.VirtIO},
			{File: iso, Format: "raw", ReadOnly: true, Type: profiles.CDROM, Bus: profiles.SATA},
		}
		if got := boot(t, p, options(t), cd, none); got != c.want {
			t.Errorf("order %q: got %q, want %q", c.order, got, c.want)
		}
	}
}

// A second start of QEMU, as the one without KVM, has a TPM of its own, in place of the first.
func TestTPMOfASecondStart(t *testing.T) {
	lab.Require(t, lab.Root, lab.Program("swtpm"))
	p := uefiProfile(profiles.BIOS, "")
	p.TPM = true
	o := options(t)
	var warned []string
	o.Tell = func(text string) { warned = append(warned, text) }
	files, err := Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	for range 2 {
		before := files.tpm.current
		socket, err := Config(p, nil, files, nil).Devices.TPM()
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && before == files.tpm.current {
			t.Error("there is no new one")
		}
		if before != nil {
			<-before.Done()
		}
		socket.Close()
	}
	last := files.tpm.current
	if err := files.Release(); err != nil {
		t.Error(err)
	}
	<-last.Done()
	if len(warned) != 0 {
		t.Errorf("got %q", warned)
	}
}

// A run that would be refused says so before, and a plan makes nothing.
func TestPlanFirmware(t *testing.T) {
	lab.Require(t, lab.OVMF, lab.Program("swtpm"))
	o := options(t)
	p := uefiProfile(profiles.UEFISecure, "")
	p.TPM = true
	plan, err := PlanFirmware(p, o)
	if err != nil || !plan.Missing || !strings.HasPrefix(plan.String(), "firmware /usr/share/") || !strings.Contains(plan.String(), "vars-secure.fd: made by a run\nTPM by swtpm, state in "+o.VMs) {
		t.Errorf("got %q, %v", plan, err)
	}
	if c := Config(p, nil, plan.Files(nil), nil); c.UEFI == nil || !c.UEFI.SMM || c.Devices.TPM == nil {
		t.Errorf("got %+v", c)
	}
	if err := Refusal(p, o); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(o.VMs); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a plan has made files: %v", err)
	}
	vars := filepath.Join(o.VMs, "u", "vars-secure.fd")
	if err := errors.Join(os.MkdirAll(filepath.Dir(vars), 0o700), os.WriteFile(vars, []byte("cut"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var bad *firmware.VarsError
	if err := Refusal(p, o); !errors.As(err, &bad) || bad.Path != vars {
		t.Errorf("got %v", err)
	}
	if _, err := Open(t.Context(), p, o); !errors.As(err, &bad) {
		t.Errorf("got %v", err)
	}
	p.Machine = "pc"
	if err := Refusal(p, o); !errors.Is(err, program.ErrLack) || !strings.Contains(err.Error(), `find firmware "uefi-secure": no UEFI firmware with secure boot`) {
		t.Errorf("got %v", err)
	}
	if plan, err := PlanFirmware(&profiles.Profile{Name: "b", Boot: profiles.Boot{Firmware: profiles.BIOS}}, Options{}); err != nil || plan != (FirmwarePlan{}) || plan.String() != "" {
		t.Errorf("a plain VM: got %+v, %v", plan, err)
	}
}
