package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// unpacked is where `make networkmanager` unpacks the package. An installed package would
// take over the machine's own links.
func unpacked() string { return lab.Module(".cache/networkmanager") }

// NetworkManagerNeeds are what NetworkManager needs.
func NetworkManagerNeeds() []lab.Need {
	return []lab.Need{lab.Root, lab.Program("dbus-daemon"), lab.Program(filepath.Join(unpacked(), "usr/sbin/NetworkManager"))}
}

// NMCLI runs nmcli with those arguments.
func NMCLI(args string) (string, error) {
	return lab.Try(nmEnv() + filepath.Join(unpacked(), "usr/bin/nmcli") + " " + args)
}

func nmEnv() string {
	return "LD_LIBRARY_PATH=" + filepath.Join(unpacked(), "usr/lib/x86_64-linux-gnu") + " "
}

// NetworkManager runs the real NetworkManager on its own system bus, with config added to
// its configuration. It returns when eth0 is connected. restart returns when
// NetworkManager knows eth0 again.
func NetworkManager(t testing.TB, config string) (restart func()) {
	t.Helper()
	lab.Bus(t)
	lab.MountEmpty(t, "/run/NetworkManager", "/etc/NetworkManager", "/var/lib/NetworkManager")
	path := "/etc/NetworkManager/NetworkManager.conf"
	config = "[main]\nplugins=keyfile\nauth-polkit=false\ndhcp=internal\nrc-manager=unmanaged\nhostname-mode=none\n" + config
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	stop := runNetworkManager(t, "eth0:connected")
	return func() {
		stop()
		stop = runNetworkManager(t, "eth0:")
	}
}

func runNetworkManager(t testing.TB, state string) (stop func()) {
	t.Helper()
	// With a read-only /sys it does not wait for udev.
	stop = lab.Daemon(t, "unshare", "--mount", "--uts", "sh", "-c",
		"mount -o remount,ro /sys; "+nmEnv()+"exec "+filepath.Join(unpacked(), "usr/sbin/NetworkManager")+" --debug")
	lab.Eventually(t, 30*time.Second, "NetworkManager", func() bool {
		out, err := NMCLI("-t -f DEVICE,STATE device")
		return err == nil && strings.Contains(out, state)
	})
	return stop
}
