package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/rig"
	"github.com/qnet-vm/qnet/internal/sshkey"
)

// debianTime bounds a Debian's first boot under TCG on a busy machine, as qnet reads it. 30 s
// is usual.
const debianTime = "10m"

// debian is a Debian 12 with cloud-init that boots by a kernel of its own.
type debian struct {
	name           string
	kernel, initrd string // paths; those of its disk if empty
	cmdline        string // more arguments of the kernel
	rest           string // of the profile, after its [guest] and one NIC
}

// debianProfile writes the profile of a Debian, and makes the key by which qnet logs in.
func (b *bench) debianProfile(d debian) (path string, err error) {
	home := filepath.Join(b.Dir, "home")
	if _, err := sshkey.Ensure(filepath.Join(home, ".ssh", "id_ed25519"), sshkey.Ed25519, "bench"); err != nil {
		return "", err
	}
	files := filepath.Join(b.Cache, "debian")
	// A profile reaches files of its own folder.
	image := filepath.Join(b.Dir, "debian.qcow2")
	link := fmt.Sprintf("[ -e %[2]s ] || ln %[1]s %[2]s 2> /dev/null || cp %[1]s %[2]s", filepath.Join(files, "debian.qcow2"), image)
	if err := errors.Join(os.Setenv("HOME", home), os.Setenv("SSH_AUTH_SOCK", ""), rig.Sh(link)); err != nil {
		return "", err
	}
	if d.kernel == "" {
		d.kernel, d.initrd = filepath.Join(files, "vmlinuz"), filepath.Join(files, "initrd.img")
	}
	path = filepath.Join(b.Dir, d.name+".toml")
	text := fmt.Sprintf(`memory = "1GiB"
accel = "tcg"
image = %q
size = "6GiB"
[boot]
kernel = %q
initrd = %q
cmdline = %q
[guest]
user = "me"
[[nic]]
mode = "nat"
%s`, image, d.kernel, d.initrd, strings.TrimSpace("root=LABEL=root rw console=ttyS0 "+d.cmdline), d.rest)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// untilShell runs qnet with arguments that start a VM, and returns the time until a command
// that was given to it by SSH has ended.
func (b *bench) untilShell(name string, args ...string) (time.Duration, error) {
	begin := time.Now()
	for _, argv := range [][]string{args, {"wait", "--for", "ssh", "--timeout", debianTime, name}, {"exec", name, "--", "true"}} {
		if _, err := rig.Run(append([]string{b.Qnet}, argv...)...); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}

// removeVM ends a VM at once and removes what it keeps. It may not be there.
func (b *bench) removeVM(name string) {
	rig.Run(b.Qnet, "stop", "--force", name)
	rig.Run(b.Qnet, "rm", "-y", name)
}
