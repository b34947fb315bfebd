package keeper

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/nstest"
	"github.com/qnet-vm/qnet/profiles"
)

// resolvedProgram is what `make resolved` unpacked: to install the package would
// change the host's own resolver.
const resolvedProgram = "../../.cache/resolved/lib/systemd/systemd-resolved"

// busConfig allows everything: the namespace is the test's own.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>
`

// startResolved runs a system bus and systemd-resolved in the namespaces of the
// test, with directories of its own.
func startResolved(t *testing.T, program string) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"/run/dbus", "/run/systemd"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", d, "tmpfs", 0, "mode=755"); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Sh(t, `cat /etc/passwd > `+dir+`/passwd; cat /etc/group > `+dir+`/group
echo "systemd-resolve:x:991:991::/:/bin/false" >> `+dir+`/passwd; echo "systemd-resolve:x:991:" >> `+dir+`/group
mount --bind `+dir+`/passwd /etc/passwd; mount --bind `+dir+`/group /etc/group; install -d -o 991 -g 991 /run/systemd/resolve`)
	conf := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(conf, []byte(busConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"dbus-daemon", "--nofork", "--config-file=" + conf}, {program}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Join(filepath.Dir(program), "../../usr/lib/x86_64-linux-gnu/systemd"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := stop
		stop = func() {
			cmd.Process.Kill()
			cmd.Wait()
			if before != nil {
				before()
			}
		}
		nstest.Eventually(t, 5*time.Second, args[0], func() bool {
			_, err := nstest.Try(`test -S /run/dbus/system_bus_socket`)
			return err == nil
		})
	}
	nstest.Eventually(t, 30*time.Second, "systemd-resolved", func() bool {
		_, err := nstest.Try("busybox nslookup -type=a localhost 127.0.0.53")
		return err == nil
	})
	// It answers before it has its name on the bus.
	nstest.Eventually(t, 30*time.Second, "systemd-resolved on the bus", func() bool {
		runs, err := withResolved(t.Context(), nil)
		return runs && err == nil
	})
	return stop
}

// Where systemd-resolved runs, the host resolves VMs' names through it, and it
// knows nothing of the network afterwards.
func TestHostResolvesNames(t *testing.T) {
	if os.Getenv("QNET_TEST_RESOLVED") == "" {
		// In some runs systemd-resolved does not answer for the name within a
		// minute, although it took the link's server; the cause is not known yet.
		t.Skip("make resolved-test runs it")
	}
	program, err := filepath.Abs(resolvedProgram)
	if err != nil {
		t.Fatal(err)
	}
	nstest.Require(t, nstest.Root, nstest.Program("dbus-daemon"), nstest.Program(program))
	inLab(t, func(t *testing.T, o Options) {
		defer startResolved(t, program)()
		state := func() string {
			return nstest.Sh(t, "find /run/systemd/resolve -type f | sort; cat /run/systemd/resolve/resolv.conf")
		}
		before := state()
		told := &notes{}
		o.Note = told.add
		defer func() {
			if t.Failed() {
				t.Logf("told: %q", told.texts)
			}
		}()
		r := mustJoin(t, o, Network{Name: "dev", Mode: profiles.NAT, Subnet: subnet}, "web", port(1))
		want := r.Ports()[0].Address.String()
		nstest.Eventually(t, 60*time.Second, "web.qnet on the host", func() bool {
			out, err := nstest.Try("timeout 5 busybox nslookup -type=a web.qnet 127.0.0.53")
			return err == nil && strings.Contains(out, want)
		})
		mustLeave(t, r)
		if after := state(); after != before {
			t.Errorf("systemd-resolved keeps\n%s\nand had\n%s", after, before)
		}
	})
}
