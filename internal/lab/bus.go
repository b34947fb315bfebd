package lab

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mounted are the directories that MountEmpty has hidden from the one test of this process.
var mounted = map[string]bool{}

// MountEmpty mounts an empty file system over each directory, once in a test.
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

// busConfig allows everything: the bus belongs to one test.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>
`

// Bus runs a system bus that all programs of a test share. It starts no services.
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
