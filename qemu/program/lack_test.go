package program

import (
	"errors"
	"strings"
	"testing"
)

// QEMU's own words, as versions 7.2 to 10 have them, say what is missing and from where to
// get it.
func TestExplain(t *testing.T) {
	for words, want := range map[string][2]string{
		`qemu-system-x86_64: -device {"driver":"virtio-net-pci"}: failed to find romfile "efi-virtio.rom"`:                      {"file efi-virtio.rom is not installed", "ipxe-qemu (Fedora: ipxe-roms-qemu"},
		"qemu: could not load PC BIOS 'bios-256k.bin'":                                                                          {"file bios-256k.bin is not installed", "apt install seabios"},
		"qemu: could not load PC BIOS '/usr/share/OVMF/OVMF_CODE.fd'":                                                           {"OVMF_CODE.fd is not installed", "apt install ovmf"},
		"qemu: could not load PC BIOS '/usr/share/edk2/x64/edk2-x86_64-code.fd'":                                                {"is not installed", "edk2-ovmf"},
		"Could not open option rom 'linuxboot_dma.bin': No such file or directory":                                              {"linuxboot_dma.bin is not installed", "qemu-system-data"},
		"qemu-system-x86_64: -device nosuch: 'nosuch' is not a valid device model name":                                         {"no device nosuch", "another model"},
		"qemu-system-x86_64: unsupported machine type\nUse -machine help to list supported machines":                            {"no such machine", `machine = "q35"`},
		`qemu-system-x86_64: unsupported machine type: "pc"`:                                                                    {"no such machine pc", `machine = "q35"`},
		"qemu-system-x86_64: unable to find CPU model 'x'":                                                                      {"no CPU model x", "-cpu help"},
		"qemu-system-x86_64: CPU model 'host' requires KVM or HVF":                                                              {"model host needs KVM", "leave cpu out"},
		"qemu: module ui-ui-gtk not found, do you want to install qemu-system-gui package?\nq: Display 'gtk' is not available.": {"module ui-ui-gtk", "qemu-system-gui"},
		"q: missing object type 'virtio-gpu-gl-device'":                                                                         {"virtio-gpu-gl-device", "Arch: qemu-full"},
		"failed to open module: /usr/lib/qemu/hw-display-qxl.so: undefined symbol":                                              {"hw-display-qxl.so: cannot be loaded", "modules"},
		"q: cannot set up guest memory 'pc.ram': Cannot allocate memory":                                                        {"not enough memory", "a smaller memory"},
		"q: error while loading shared libraries: libslirp.so.0: cannot open shared object file":                                {"lacks the library libslirp.so.0", "install QEMU again"},
		"q: -netdev user,id=n: network backend 'user' is not compiled into this binary":                                         {"no network backend user", `mode = "nat"`},
		"q: failed to install seccomp syscall filter in the kernel: Operation not permitted":                                    {"sandbox", "seccomp(2)"},
		"Could not access KVM kernel module: Permission denied":                                                                 {"KVM does not work (Permission denied)", `accel = "auto"`},
	} {
		died := errors.New("QEMU exited with status 1")
		err := Explain(died, "q: warning: something\n"+words)
		var lack *Lack
		if !errors.As(err, &lack) || !errors.Is(err, ErrLack) || !errors.Is(err, died) {
			t.Errorf("%s: got %v", words, err)
			continue
		}
		if !strings.Contains(lack.What, want[0]) || !strings.Contains(lack.Hint(), want[1]) || !strings.HasSuffix(err.Error(), ": "+died.Error()) {
			t.Errorf("%s: got %q, hint %q, want %q", words, err, lack.Hint(), want)
		}
	}
	died := errors.New("QEMU exited with status 1")
	if err := Explain(died, "q: -foo: invalid option"); err != died { //nolint:errorlint // the same, and no other that wraps it
		t.Errorf("got %v", err)
	}
	if err := Explain(nil, `failed to find romfile "x"`); err != nil {
		t.Errorf("without an error: %v", err)
	}
}

// A machine that runs goes without some files, but not without those that start its kernel.
func TestUnbootable(t *testing.T) {
	if err := Unbootable("Could not open option rom 'kvmvapic.bin': No such file or directory"); err != nil {
		t.Errorf("got %v", err)
	}
	err := Unbootable("Could not open option rom 'kvmvapic.bin': No such file\nCould not open option rom 'linuxboot_dma.bin': No such file")
	if !errors.Is(err, ErrLack) || !strings.Contains(err.Error(), "linuxboot_dma.bin") {
		t.Errorf("got %v", err)
	}
}
