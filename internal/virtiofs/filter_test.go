package virtiofs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// attempts are system calls under the filter, and how each ends.
var attempts = []struct {
	what string
	do   func(dir string) error
	want error
}{
	{"become another user", func(string) error { return raw(unix.SYS_SETRESUID, 7, 7, 7) }, nil},
	{"drop groups", func(string) error { return raw(unix.SYS_SETGROUPS, 0, 0, 0) }, nil},
	{"set-user-ID by fchmodat", func(dir string) error { return unix.Fchmodat(unix.AT_FDCWD, dir+"/file", 0o4755, 0) }, unix.EPERM},
	{"set-group-ID by fchmodat", func(dir string) error { return unix.Fchmodat(unix.AT_FDCWD, dir+"/file", 0o2755, 0) }, unix.EPERM},
	{"a mode", func(dir string) error { return unix.Fchmodat(unix.AT_FDCWD, dir+"/file", 0o1755, 0) }, nil},
	{"set-user-ID by openat", func(dir string) error { return open(dir+"/a", 0o4755) }, unix.EPERM},
	{"a file by openat", func(dir string) error { return open(dir+"/b", 0o755) }, nil},
	{"set-user-ID by mknodat", func(dir string) error { return unix.Mknodat(unix.AT_FDCWD, dir+"/c", unix.S_IFREG|0o4755, 0) }, unix.EPERM},
	{"a fifo", func(dir string) error { return unix.Mknodat(unix.AT_FDCWD, dir+"/d", unix.S_IFIFO|0o600, 0) }, nil},
	{"set-group-ID by mkdirat", func(dir string) error { return unix.Mkdirat(unix.AT_FDCWD, dir+"/e", 0o2755) }, unix.EPERM},
	{"openat2", func(dir string) error { _, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{}); return err }, unix.ENOSYS},
	{"chown to another user", func(dir string) error { return chown(dir, 33, -1) }, unix.EPERM},
	{"chown to another group", func(dir string) error { return chown(dir, -1, 33) }, unix.EPERM},
	{"chown to both", func(dir string) error { return chown(dir, 33, 33) }, unix.EPERM},
	{"chown of nothing", func(dir string) error { return chown(dir, -1, -1) }, nil},
}

func raw(number, a, b, c uintptr) error {
	if _, _, e := unix.RawSyscall(number, a, b, c); e != 0 {
		return e
	}
	return nil
}

func open(path string, mode uint32) error {
	fd, err := unix.Openat(unix.AT_FDCWD, path, unix.O_CREAT|unix.O_RDWR, mode)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func chown(dir string, uid, gid int) error {
	return unix.Fchownat(unix.AT_FDCWD, dir+"/file", uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// filtered does the attempts under the filter.
func filtered(dir string) int {
	runtime.LockOSThread()
	if err := errors.Join(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), filter(Owner).Install()); err != nil {
		fmt.Println(err)
		return 1
	}
	for _, a := range attempts {
		if err := a.do(dir); !errors.Is(err, a.want) {
			fmt.Printf("%s: got %v, want %v\n", a.what, err, a.want)
		}
	}
	if os.Geteuid() == 7 || unix.Geteuid() != syscall.Getuid() {
		fmt.Println("it became another user")
	}
	return 0
}

// The filter lets the guest's users be, and refuses what would give files rights or other
// owners.
func TestFilter(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := again("filtered", dir).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Errorf("%v:\n%s", err, out)
	}
}
