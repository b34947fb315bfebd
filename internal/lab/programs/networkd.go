package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

const networkdProgram = "/lib/systemd/systemd-networkd"

// NetworkdNeeds are what Networkd needs.
var NetworkdNeeds = []lab.Need{lab.Root, lab.Program("dbus-daemon"), lab.Program(networkdProgram), lab.Program("networkctl")}

// Networkd runs the real systemd-networkd on its own system bus, with these files in
// /run/systemd/network. It returns when networkd knows eth0 or, if configured is set, has
// configured it. restart returns when networkd knows eth0 again.
func Networkd(t testing.TB, files map[string]string, configured bool) (restart func()) {
	t.Helper()
	lab.Bus(t)
	lab.MountEmpty(t, "/run/systemd", "/etc/systemd/network")
	lab.Sh(t, `mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network:systemd-network /run/systemd/netif`)
	for name, text := range files {
		path := filepath.Join("/run/systemd/network", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stop := runNetworkd(t, configured)
	return func() {
		stop()
		stop = runNetworkd(t, false)
	}
}

func runNetworkd(t testing.TB, configured bool) (stop func()) {
	t.Helper()
	// With a read-only /sys it does not wait for udev.
	stop = lab.Daemon(t, "unshare", "--mount", "--uts", "sh", "-c", "mount -o remount,ro /sys; exec "+networkdProgram)
	lab.Eventually(t, 20*time.Second, "systemd-networkd", func() bool {
		state, err := lab.Try("networkctl --no-legend --no-pager list eth0")
		return err == nil && (!configured || strings.Contains(state, " configured"))
	})
	return stop
}
