package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// askVariable makes the test binary print what Check says.
const askVariable = "QNET_TEST_CHECK_USER"

func TestMain(m *testing.M) {
	if os.Getenv(askVariable) != "" {
		fmt.Println((&Credential{UID: 65534, GID: 65534}).Check())
		return
	}
	os.Exit(m.Run())
}

// In real user namespaces, Check says what would keep a child from being "nobody".
func TestCheck(t *testing.T) {
	lab.Require(t, lab.Root)
	ids := func(count int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: 0, Size: count}} }
	for name, c := range map[string]struct {
		attr syscall.SysProcAttr
		want string
	}{
		"no-namespace": {syscall.SysProcAttr{}, "<nil>"},
		"all-ids":      {syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids(65536), GidMappings: ids(65536), GidMappingsEnableSetgroups: true}, "<nil>"},
		"one-id":       {syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids(1), GidMappings: ids(1)}, "user 65534, which this user namespace does not map"},
		"system-ids":   {syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids(1000), GidMappings: ids(1000), GidMappingsEnableSetgroups: true}, "user 65534, which"},
		"few-groups":   {syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids(65536), GidMappings: ids(1000), GidMappingsEnableSetgroups: true}, "group 65534, which"},
		"no-setgroups": {syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids(65536), GidMappings: ids(65536)}, "forbids setgroups(2)"},
		"no-rights":    {syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1, Gid: 1}}, "which takes CAP_SETUID and CAP_SETGID"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), askVariable+"=1")
			cmd.SysProcAttr = &c.attr
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("got %q, %v, want %q", out, err, c.want)
			}
			alone, _, _ := strings.Cut(string(out), "\n")
			if child := becomes(c.attr); (child == nil) != (alone == "<nil>") {
				t.Errorf("Check: %q, but the kernel: %v", alone, child)
			}
		})
	}
}

// becomes has the kernel try in such a process what Check answers.
func becomes(attr syscall.SysProcAttr) error {
	cmd := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "true")
	cmd.SysProcAttr = &attr
	return cmd.Run()
}

// The kernel's error about a program that it does not start gets its cause.
func TestStartError(t *testing.T) {
	lab.Require(t, lab.Root)
	dir := lab.Dir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	other := append([]byte{}, sh...)
	other[18] = 0xb7 // e_machine: AArch64
	for path, want := range map[string]string{
		write("script", []byte("#!/no/such/shell -x\n")):                                                          `needs "/no/such/shell -x" to start`,
		write("loader", []byte(strings.Replace(string(sh), "/ld-linux-x86-64.so.2", "/ld-linux-x86-65.so.2", 1))): `needs the loader "/lib64/ld-linux-x86-65.so.2" to start`,
		write("text", []byte("hello\n")):                                                                          "is no program for this machine",
		write("other", other):                                                                                     "is no program for this machine",
		write("closed/program", sh):                                                                               "is closed to user 65534",
	} {
		cmd := exec.Command(path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cause := cmd.Start()
		err := StartError(path, 65534, cause)
		var lack *Lack
		if !errors.As(err, &lack) || !strings.Contains(err.Error(), want) || !errors.Is(err, cause) || lack.Hint() == "" {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	for _, errno := range []unix.Errno{unix.EAGAIN, unix.EPERM} {
		if err := StartError("/bin/sh", 0, errno); !errors.Is(err, ErrLack) || !errors.Is(err, errno) {
			t.Errorf("%v: got %v", errno, err)
		}
	}
	if err := StartError("/bin/sh", 0, unix.EIO); !errors.Is(err, unix.EIO) || errors.Is(err, ErrLack) {
		t.Errorf("got %v", err)
	}
}

// A file system that is mounted noexec is named as that.
func TestNoexec(t *testing.T) {
	lab.Require(t, lab.Root)
	lab.Run(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOEXEC, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		path := filepath.Join(dir, "q")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := StartError(path, 0, exec.Command(path).Start()); err == nil || !strings.Contains(err.Error(), "mounted noexec") {
			t.Errorf("got %v", err)
		}
	})
}
