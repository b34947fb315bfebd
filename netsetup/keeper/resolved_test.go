package keeper

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/nstest"
	"github.com/qnet-vm/qnet/profiles"
)

// resolvedProgram is what `make resolved` unpacked: to install the package would
// change the host's own resolver.
const resolvedProgram = "../../.cache/resolved/lib/systemd/systemd-resolved"

// startResolved runs a system bus and systemd-resolved in the namespaces of the
// test, with directories of its own.
func startResolved(t *testing.T, program string) (stop func()) {
	t.Helper()
	nstest.Bus(t)
	nstest.Private(t, "/run/systemd")
	dir := t.TempDir()
	nstest.Sh(t, `cat /etc/passwd > `+dir+`/passwd; cat /etc/group > `+dir+`/group
echo "systemd-resolve:x:991:991::/:/bin/false" >> `+dir+`/passwd; echo "systemd-resolve:x:991:" >> `+dir+`/group
mount --bind `+dir+`/passwd /etc/passwd; mount --bind `+dir+`/group /etc/group; install -d -o 991 -g 991 /run/systemd/resolve`)
	libs := filepath.Join(filepath.Dir(program), "../../usr/lib/x86_64-linux-gnu/systemd")
	stop = nstest.Daemon(t, "env", "LD_LIBRARY_PATH="+libs, "SYSTEMD_LOG_LEVEL=debug", program)
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
	program, err := filepath.Abs(resolvedProgram)
	if err != nil {
		t.Fatal(err)
	}
	nstest.Require(t, nstest.Program(program))
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
