package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
)

// Check returns a *Lack if this process cannot make a child that is the user: in a user
// namespace that does not map the ids, or that forbids setgroups(2) (user_namespaces(7)), or
// without the capabilities for it. It always can as its own user; nil is that, too. It
// reads /proc/self.
func (c *Credential) Check() error {
	if c == nil || c.UID != 0 && c.UID == uint32(os.Geteuid()) && c.GID == uint32(os.Getegid()) {
		return nil
	}
	const remedy = `run it outside of this user namespace, or in one with a range of ids ("podman unshare", "unshare --map-auto --map-root-user"); mode = "user" outside needs no rights`
	switch {
	case !confine.MapsUser(c.UID):
		return &Lack{What: fmt.Sprintf("QEMU is to run as user %d, which this user namespace does not map", c.UID), Remedy: remedy}
	case !confine.MapsGroup(c.GID):
		return &Lack{What: fmt.Sprintf("QEMU is to run as group %d, which this user namespace does not map", c.GID), Remedy: remedy}
	case strings.TrimSpace(text("/proc/self/setgroups")) == "deny":
		return &Lack{What: "QEMU is to run without the caller's groups, and this user namespace forbids setgroups(2)", Remedy: remedy}
	}
	if missing := missingCapabilities(); missing != "" {
		return &Lack{
			What:   fmt.Sprintf("QEMU is to run as user %d, which takes %s", c.UID, missing),
			Remedy: "give it that: in a container, --cap-add SETUID --cap-add SETGID; in a unit, CapabilityBoundingSet=",
		}
	}
	return nil
}

// Mapped reports whether this process's user namespace has the user and the group
// (user_namespaces(7)). It reads /proc/self.
func (c *Credential) Mapped() bool { return confine.MapsUser(c.UID) && confine.MapsGroup(c.GID) }

// missingCapabilities names those of the needed capabilities that this thread lacks.
func missingCapabilities() string {
	capabilities, err := confine.Effective()
	if err != nil {
		return ""
	}
	var missing []string
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_SETUID, "CAP_SETUID"}, {unix.CAP_SETGID, "CAP_SETGID"}} {
		if capabilities&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	return strings.Join(missing, " and ")
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

// StartError words why the kernel did not start the program as the user (execve(2)). It
// returns a *Lack, or err as it is where it has no explanation.
func StartError(path string, uid uint32, err error) error {
	var what string
	remedy := "QNET_QEMU names another program"
	switch {
	case errors.Is(err, unix.EACCES) && noexec(path):
		what = fmt.Sprintf("%q is on a file system that is mounted noexec", path)
	case errors.Is(err, unix.EACCES):
		what = fmt.Sprintf("%q, or a directory above it, is closed to user %d, as whom QEMU is to run", path, uid)
		remedy = "chmod o+rx, or put it elsewhere, and name it by QNET_QEMU"
	case errors.Is(err, unix.ENOENT) && executable(path) == nil:
		what = fmt.Sprintf("%q needs %s to start, which is not there", path, interpreter(path))
		remedy = "install QEMU again, for this distribution and this machine"
	case errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.ELIBBAD):
		what = fmt.Sprintf("%q is no program for this machine", path)
	case errors.Is(err, unix.EAGAIN):
		what = fmt.Sprintf("user %d has as many processes as it may have", uid)
		remedy = "a higher ulimit -u, or TasksMax= of the unit"
	case errors.Is(err, unix.EPERM):
		what = fmt.Sprintf("a security module, or the container's seccomp filter, forbids %q", path)
		remedy = `the kernel's log or that of the audit says which; it may be a rule of AppArmor or SELinux for this path`
	default:
		return err
	}
	return &Lack{What: what, Remedy: remedy, Err: err}
}

func noexec(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&unix.ST_NOEXEC != 0
}

// interpreter is what the kernel starts to run the program: its loader, or the program
// behind "#!".
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "a loader"
	}
	defer f.Close()
	start := make([]byte, 128)
	n, _ := io.ReadFull(f, start)
	if line, script := strings.CutPrefix(string(start[:n]), "#!"); script {
		line, _, _ = strings.Cut(line, "\n")
		return fmt.Sprintf("%q", strings.TrimSpace(line))
	}
	if loader, err := Loader(path); err == nil && loader != "" {
		return fmt.Sprintf("the loader %q", loader)
	}
	return "a loader"
}
