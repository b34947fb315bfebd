package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/qemu/qmp"
)

// becomes waits until the VM's state is as wanted.
func (l *testHost) becomes(name, status string, within time.Duration) {
	l.Helper()
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		got := l.state(name).Status()
		if got == status {
			return
		}
		if time.Now().After(end) {
			l.Fatalf("VM %s is %q, want %q within %s", name, got, status, within)
		}
	}
}

// logs returns the VM's qnet.log.
func (l *testHost) logs(name string) string {
	b, _ := os.ReadFile(filepath.Join(l.dir, "state/logs", name, "qnet.log"))
	return string(b)
}

// A guest stands still when the host's disk is full. The run, qnet.log, ps and wait say so;
// it goes on by itself when there is room; without room it is stopped quickly.
func TestFullDisk(t *testing.T) {
	inLab(t, func(l *testHost) {
		full := filepath.Join(l.dir, "full")
		if err := os.Mkdir(full, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", full, "tmpfs", 0, "size=4m,mode=755"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(full, 0)
		disk := filepath.Join(full, "web.raw")
		if err := os.WriteFile(disk, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(disk, 64<<20); err != nil {
			t.Fatal(err)
		}
		fill := "dd if=/dev/zero of=/dev/vda bs=1M count=8 oflag=direct; echo WROTE; sleep 4; dd if=/dev/zero of=/dev/vda seek=8 bs=1M count=40 oflag=direct"
		p := l.start("run", l.profile("web", vm(l, "web", guest.Script(fill))+fmt.Sprintf("[[disk]]\nfile = %q\nformat = \"raw\"\n", disk)))
		p.says(`warning: VM web is paused: no space left for disk "`+disk+`"`, bootTime)
		l.becomes("web", "paused (no space: web.raw)", time.Second)
		if !strings.Contains(l.logs("web"), "no space left") {
			t.Errorf("qnet.log: %q", l.logs("web"))
		}
		if ps := l.must("ps"); !strings.Contains(ps, "paused (no space: web.raw)") {
			t.Errorf("ps: %s", ps)
		}
		if json := l.must("ps", "--json"); !strings.Contains(json, `"reason": "no space: web.raw"`) || !strings.Contains(json, `"`+disk+`"`) {
			t.Errorf("ps: %s", json)
		}
		code, _, stderr := l.qnet("wait", "--for", "port:1", "--timeout", "300ms", "web")
		if code != 1 || !strings.Contains(stderr, "VM paused (no space: web.raw)") || !strings.Contains(stderr, "the host cannot write to "+disk) {
			t.Errorf("wait: %d, %s", code, stderr)
		}

		if err := unix.Mount("none", full, "tmpfs", unix.MS_REMOUNT, "size=16m,mode=755"); err != nil {
			t.Fatal(err)
		}
		p.says("WROTE", 10*time.Second)
		p.says("warning: VM web goes on", 10*time.Second)
		l.becomes("web", "paused (no space: web.raw)", 10*time.Second) // by what it writes next
		begin := time.Now()
		_, _, stderr = l.qnet("stop", "web")
		if took := time.Since(begin); took > 10*time.Second || !strings.Contains(stderr, "cannot hear its power button (no space: web.raw)") {
			t.Errorf("stop took %s: %s", took, stderr)
		}
		if code := p.end(10 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// crashKernel has a guest crash its kernel, which says so by the device that QEMU has for it.
const crashKernel = "echo 1 > /proc/sys/kernel/sysrq; echo CRASHES; echo c > /proc/sysrq-trigger"

// A guest whose kernel crashed is shown as panicked until it is reset. It is not asked to
// shut down, and the exit code says what happened.
func TestPanickedGuest(t *testing.T) {
	inLab(t, func(l *testHost) {
		nic := "[[nic]]\nmode = \"none\"\n"
		p := l.start("run", l.profile("dead", vm(l, "dead", guest.Script(crashKernel))+nic))
		p.says("warning: VM dead panicked: its guest's kernel crashed", bootTime)
		l.becomes("dead", string(control.Panicked), time.Second)
		begin := time.Now()
		l.must("stop", "dead")
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("stop took %s", took)
		}
		if code := p.end(10 * time.Second); code != exitQEMU || !strings.Contains(p.errout.String(), "the guest panicked") {
			t.Errorf("exit code %d, %s", code, &p.errout)
		}

		// This guest starts again by itself.
		p = l.start("run", l.profile("again", vm(l, "again", "panic=-1 "+guest.Script(crashKernel))+nic))
		p.says("warning: VM again panicked", bootTime)
		p.says("warning: VM again was reset after its panic: its guest starts again", 10*time.Second)
		l.becomes("again", string(control.Running), time.Second)
		l.must("stop", "--force", "again")
	})
}

// The user may leave the end of a guest that panicked to QEMU. qnet must not disturb that:
// QEMU hangs if it is asked something while it ends. Several, because only some would.
func TestPanickedGuestEnds(t *testing.T) {
	inLab(t, func(l *testHost) {
		runs := map[string]*process{}
		for _, name := range []string{"one", "two", "three", "four"} {
			runs[name] = l.start("run", l.profile(name, vm(l, name, guest.Script(crashKernel))+"[[nic]]\nmode = \"none\"\n"), "--", "-action", "panic=shutdown")
		}
		for name, p := range runs {
			if code := p.end(2 * bootTime); code != exitQEMU || !strings.Contains(p.errout.String(), "warning: VM "+name+" panicked") {
				t.Errorf("VM %s: exit code %d, %s", name, code, &p.errout)
			}
		}
	})
}

// A guest that sleeps is shown as suspended, and woken to be shut down.
func TestSuspendedGuest(t *testing.T) {
	inLab(t, func(l *testHost) {
		p := l.start("run", l.profile("bear", vm(l, "bear", guest.Script("sleep 1; echo mem > /sys/power/state; echo WOKE; sleep 1000"))+"[[nic]]\nmode = \"none\"\n"))
		p.says("warning: VM bear is suspended: its guest sleeps", bootTime)
		l.becomes("bear", string(control.Suspended), time.Second)
		begin := time.Now()
		l.must("stop", "bear")
		if took := time.Since(begin); took > 25*time.Second {
			t.Errorf("stop took %s", took)
		}
		p.says("WOKE", time.Second)
		p.end(10 * time.Second)
	})
}

// qmp gives a command by a QMP socket of the user's own.
func (l *testHost) qmp(socket, command string) {
	l.Helper()
	m, err := net.Dial("unix", socket)
	if err != nil {
		l.Fatal(err)
	}
	monitor := qmp.New(m)
	if err := monitor.ConnectContext(l.Context()); err != nil {
		l.Fatal(err)
	}
	if err := monitor.Execute(l.Context(), command, nil, nil); err != nil {
		l.Error(err)
	}
	monitor.Disconnect()
}

// A VM that a person pauses by QMP is shown as paused until it goes on.
func TestPausedByHand(t *testing.T) {
	inLab(t, func(l *testHost) {
		dir := filepath.Join(l.dir, "qmp")
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil { // QEMU is nobody
			t.Fatal(err)
		}
		socket := filepath.Join(dir, "s")
		l.must("run", "-d", l.profile("web", "memory = \"64MiB\"\naccel = \"tcg\"\n[[nic]]\nmode = \"none\"\n"), "--", "-qmp", "unix:"+socket+",server=on,wait=off")
		l.qmp(socket, "stop")
		l.becomes("web", "paused", 5*time.Second)
		l.qmp(socket, "cont")
		l.becomes("web", "running", 5*time.Second)
		if log := l.logs("web"); !strings.Contains(log, "VM web is paused by a command to QEMU") || !strings.Contains(log, "VM web goes on") {
			t.Errorf("qnet.log: %q", log)
		}
		l.must("stop", "--force", "web")
	})
}
