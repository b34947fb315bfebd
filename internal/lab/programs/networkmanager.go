package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// unpacked is where `make networkmanager` unpacks the package: to install it
// would hand the machine's own links to it.
func unpacked() string {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
	}
	return filepath.Join(dir, ".cache/networkmanager")
}

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

// NetworkManager runs the real one, with config added to its configuration, on a
// system bus of its own. It returns once eth0 is connected, and restart
// once it knows eth0 again.
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
	// With a /sys that cannot be written to, it does not wait for udev.
	stop = lab.Daemon(t, "unshare", "--mount", "--uts", "sh", "-c",
		"mount -o remount,ro /sys; "+nmEnv()+"exec "+filepath.Join(unpacked(), "usr/sbin/NetworkManager")+" --debug")
	lab.Eventually(t, 30*time.Second, "NetworkManager", func() bool {
		out, err := NMCLI("-t -f DEVICE,STATE device")
		return err == nil && strings.Contains(out, state)
	})
	return stop
}
