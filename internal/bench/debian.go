package main

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/rig"
	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/internal/sshkey"
)

// debianTime bounds a Debian's first boot under TCG on a busy machine, as qnet reads it. 30 s
// is usual.
const debianTime = "10m"

// debianProfile writes the profile of a Debian, and makes the key by which qnet logs in.
func (b *bench) debianProfile(name string, d guestfiles.Debian) (path string, err error) {
	home := filepath.Join(b.Dir, "home")
	if _, err := sshkey.Ensure(filepath.Join(home, ".ssh", "id_ed25519"), sshkey.Ed25519, "bench"); err != nil {
		return "", err
	}
	if err := errors.Join(os.Setenv("HOME", home), os.Setenv("SSH_AUTH_SOCK", "")); err != nil {
		return "", err
	}
	d.Files = filepath.Join(b.Cache, "debian")
	d.Rest = "[guest]\nuser = \"me\"\n[[nic]]\nmode = \"nat\"\n" + d.Rest
	text, err := d.Profile(b.Dir)
	if err != nil {
		return "", err
	}
	path = filepath.Join(b.Dir, name+".toml")
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
