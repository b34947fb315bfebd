package guest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Debian is a profile of the Debian disk with cloud-init that `make debian` makes.
type Debian struct {
	Files          string // directory of what it made
	Kernel, Initrd string // paths; "" are those of the disk
	Cmdline        string // further arguments of the kernel
	Rest           string // of the profile, behind [boot]
}

// Profile returns the profile's text. It puts the disk into the profile's own folder, where a
// profile may reach it.
func (d Debian) Profile(folder string) (string, error) {
	disk, image := filepath.Join(d.Files, "debian.qcow2"), filepath.Join(folder, "debian.qcow2")
	if _, err := os.Stat(image); err != nil && os.Link(disk, image) != nil {
		if out, err := exec.Command("cp", disk, image).CombinedOutput(); err != nil {
			return "", fmt.Errorf("copy the Debian disk: %w: %s", err, out)
		}
	}
	if d.Kernel == "" {
		d.Kernel, d.Initrd = filepath.Join(d.Files, "vmlinuz"), filepath.Join(d.Files, "initrd.img")
	}
	return fmt.Sprintf(`memory = "1GiB"
accel = "tcg"
image = %q
size = "6GiB"

[boot]
kernel = %q
initrd = %q
cmdline = %q

%s`, image, d.Kernel, d.Initrd, strings.TrimSpace("root=LABEL=root rw console=ttyS0 "+d.Cmdline), d.Rest), nil
}
