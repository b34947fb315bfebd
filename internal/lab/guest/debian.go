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

// Put puts a file into a profile's own folder, where a profile may reach it, and returns its
// path there. The name begins with that of the file's directory: there are several vmlinuz.
func Put(file, folder string) (string, error) {
	path := filepath.Join(folder, filepath.Base(filepath.Dir(file))+"-"+filepath.Base(file))
	if _, err := os.Stat(path); err != nil && os.Link(file, path) != nil {
		if out, err := exec.Command("cp", file, path).CombinedOutput(); err != nil {
			return "", fmt.Errorf("copy %s: %w: %s", file, err, out)
		}
	}
	return path, nil
}

// Profile returns the profile's text. It puts disk, kernel and initramfs into the profile's own
// folder.
func (d Debian) Profile(folder string) (string, error) {
	image := filepath.Join(d.Files, "debian.qcow2")
	if d.Kernel == "" {
		d.Kernel, d.Initrd = filepath.Join(d.Files, "vmlinuz"), filepath.Join(d.Files, "initrd.img")
	}
	for _, file := range []*string{&image, &d.Kernel, &d.Initrd} {
		var err error
		if *file, err = Put(*file, folder); err != nil {
			return "", err
		}
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
