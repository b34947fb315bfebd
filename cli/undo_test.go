package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// readOnlySysctls makes /proc/sys read-only until the returned function is called: a
// sysctl that qnet changed cannot be put back meanwhile.
func (l *testHost) readOnlySysctls() (writable func()) {
	l.Helper()
	const sys = "/proc/sys"
	err := unix.Mount(sys, sys, "", unix.MS_BIND, "")
	if err == nil {
		err = unix.Mount("", sys, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	if err != nil {
		l.Fatal(err)
	}
	return func() {
		if err := unix.Unmount(sys, unix.MNT_DETACH); err != nil {
			l.Fatal(err)
		}
	}
}

// notes returns what a VM's qnet.log holds.
func (l *testHost) notes(vm string) string {
	b, _ := os.ReadFile(filepath.Join(l.dir, "state/logs", vm, "qnet.log"))
	return string(b)
}

// told checks that a command failed with the exit code and said the words.
func (l *testHost) told(code, want int, said string, words ...string) {
	l.Helper()
	if code != want {
		l.Errorf("exit code %d, want %d\n%s", code, want, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			l.Errorf("no %q in %q", w, said)
		}
	}
	if strings.Count(said, "read-only file system") > 1 {
		l.Errorf("said twice: %q", said)
	}
}

// The user who stops a VM learns that its network could not be undone. So does the
// reader of qnet.log, and the user of qnet gc until that succeeds.
func TestFailedUndoIsTold(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("a", idle+"[[nic]]\nmode = \"nat\"\n")
		words := []string{"not everything was undone", "network \"nat\"", "net/ipv4/conf/eth0/forwarding", "read-only file system"}

		l.must("run", "-d", path)
		writable := l.readOnlySysctls()
		code, _, said := l.qnet("stop", "--force", "a")
		l.told(code, exitFailure, said, append(words, "a: quit", "qnet gc")...)
		l.told(0, 0, l.notes("a"), words...)
		code, _, said = l.qnet("gc")
		l.told(code, exitFailure, said, "network \"nat\"", "read-only file system")
		writable()
		if out := l.must("gc"); !strings.Contains(out, "removed network nat") {
			t.Errorf("gc says %q", out)
		}
		l.before.Check(t)

		// The user of a VM in the foreground learns it, too.
		p := l.start("run", path)
		lab.Eventually(t, 10*time.Second, "it runs", func() bool { return strings.Contains(l.must("ps"), "running") })
		writable = l.readOnlySysctls()
		code, _, said = l.qnet("stop", "--force", "a")
		l.told(code, exitFailure, said, words...)
		l.told(p.end(10*time.Second), exitFailure, p.errout.String(), append(words, "qnet gc")...)
		writable()
		l.must("gc")
	})
}

// The user learns of a step that the supervisor itself could not undo.
func TestFailedStepOfTheUndoIsTold(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("a", idle+"[[nic]]\nmode = \"private\"\n")
		for _, action := range []string{fail, panics} {
			if err := os.WriteFile(filepath.Join(l.dir, "failpoint"), []byte("supervisor:supervisor_undid_a_step#2 "+action), 0o644); err != nil {
				t.Fatal(err)
			}
			l.must("run", "-d", path)
			code, _, said := l.qnet("stop", "--force", "a")
			l.told(code, exitFailure, said, "not everything was undone", "failpoint", "qnet gc")
			l.told(0, 0, l.notes("a"), "not everything was undone", "failpoint")
			l.before.Check(t)
		}
	})
}

// `qnet stop` does not take a dead supervisor for one that has undone everything.
func TestDeadSupervisorIsTold(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("a", idle+"[[nic]]\nmode = \"private\"\n")
		for _, point := range []string{"supervisor_undid_a_step#1", "supervisor_saw_the_end#1"} {
			if err := os.WriteFile(filepath.Join(l.dir, "failpoint"), []byte("supervisor:"+point+" "+killSupervisor), 0o644); err != nil {
				t.Fatal(err)
			}
			l.must("run", "-d", path)
			code, _, said := l.qnet("stop", "--force", "a")
			l.told(code, exitFailure, said, "its supervisor died", "qnet gc")
			l.must("gc")
			l.before.Check(t)
		}

		l.must("run", "-d", path)
		pid := l.state("a").PID
		p := l.start("stop", "a")
		p.says("power button", 5*time.Second)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		l.told(p.end(5*time.Second), exitFailure, p.errout.String(), "its supervisor died")
		l.must("gc")
	})
}
