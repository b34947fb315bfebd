package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon runs a program that stays in the foreground, until stop, which is
// SIGTERM and after 5 s SIGKILL, or the test's end. What it prints is in the
// test's log where the test fails.
func Daemon(t testing.TB, args ...string) (stop func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), filepath.Base(args[0])+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	wait, err := Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		wait()
		close(ended)
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				cmd.Process.Kill()
				<-ended
			}
		})
	}
	t.Cleanup(func() {
		stop()
		if said, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s said:\n%s", args[0], said)
		}
		log.Close()
	})
	return stop
}

// mounted are the directories that MountEmpty has made, in the one test of this process.
var mounted = map[string]bool{}

// MountEmpty gives the namespace empty directories of its own in the place of those;
// it leaves alone what it has made already.
func MountEmpty(t testing.TB, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if mounted[d] {
			continue
		}
		mounted[d] = true
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", d, "tmpfs", 0, "mode=755"); err != nil {
			t.Fatalf("mount %s: %v", d, err)
		}
	}
}

// busConfig allows everything: the namespace is the test's own.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>
`

// Bus runs a system bus of the namespace's own, which starts nothing by itself. All
// programs of a test share it.
func Bus(t testing.TB) {
	t.Helper()
	Require(t, Program("dbus-daemon"))
	if mounted["/run/dbus"] {
		return
	}
	conf := filepath.Join(t.TempDir(), "bus.conf")
	if err := os.WriteFile(conf, []byte(busConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	MountEmpty(t, "/run/dbus")
	Daemon(t, "dbus-daemon", "--nofork", "--config-file="+conf)
	Eventually(t, 10*time.Second, "the system bus", func() bool {
		_, err := os.Stat("/run/dbus/system_bus_socket")
		return err == nil
	})
}
