package confine_test

import (
	"errors"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/lab"
)

// sleeper is a process of another user.
func sleeper(t *testing.T, uid uint32) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

// limitOf reads a limit of a process as its user: root may lack CAP_SYS_RESOURCE.
func limitOf(t *testing.T, user *asuser.User, pid, resource int) (l unix.Rlimit) {
	t.Helper()
	if err := user.Do(func() error { return unix.Prlimit(pid, resource, nil, &l) }); err != nil {
		t.Fatal(err)
	}
	return l
}

// powerless runs f on a thread of root's without CAP_SYS_RESOURCE, as in a container.
func powerless(t *testing.T, f func() error) error {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
		result <- errors.Join(err, unix.Capset(&header, &data[0]), f())
	}()
	return <-result
}

// A process of another user is bounded by root, and where root may not, by that user. Limits
// that are lower stay, and a process that has ended is no error.
func TestBounds(t *testing.T) {
	lab.Require(t, lab.Root)
	const uid = 65534
	b := confine.Bounds{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: 100}
	user := &asuser.User{UID: uid, GID: uid}
	ways := map[string]func(pid int) error{
		"container": func(pid int) error { return powerless(t, func() error { return b.Set(pid, user.Do) }) },
		"within":    func(pid int) error { return powerless(t, func() error { return b.Set(pid, user.Within) }) },
	}
	if rights, err := confine.Effective(); err == nil && rights&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		ways["root"] = func(pid int) error { return b.Set(pid, nil) }
	}
	for name, set := range ways {
		pid := sleeper(t, uid).Process.Pid
		if err := set(pid); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if core, files := limitOf(t, user, pid, unix.RLIMIT_CORE), limitOf(t, user, pid, unix.RLIMIT_NOFILE); core.Max != 0 || files.Cur != 100 || files.Max != 100 {
			t.Errorf("%s: %+v, %+v", name, core, files)
		}
		if err := (confine.Bounds{unix.RLIMIT_NOFILE: 200}).Set(pid, user.Do); err != nil || limitOf(t, user, pid, unix.RLIMIT_NOFILE).Max != 100 {
			t.Errorf("%s: a lower limit was raised, %v", name, err)
		}
	}
	cmd := sleeper(t, uid)
	if err := powerless(t, func() error { return b.Set(cmd.Process.Pid, nil) }); !errors.Is(err, unix.EPERM) {
		t.Errorf("by nobody who may: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if err := b.Set(cmd.Process.Pid, nil); err != nil {
		t.Errorf("after its end: %v", err)
	}
}
