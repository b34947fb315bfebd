package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// udhcpcScript does what the script of Debian does.
const udhcpcScript = `#!/bin/sh
case $1 in
deconfig) ip -4 addr flush dev $interface; ip link set $interface up ;;
bound|renew) ip -4 addr replace $ip/$mask broadcast + dev $interface; ip route replace default via $router dev $interface ;;
esac
`

// dhcpClients are shell commands that run a client on eth0 in the foreground, in its own
// mount namespace. $dir is a directory for the client.
var dhcpClients = map[string]string{
	"udhcpc":   "busybox udhcpc -f -i eth0 -s $dir/script",
	"dhclient": "dhclient -d -pf $dir/pid -lf $dir/leases eth0",
	// Without udev it would wait for links to be ready. It needs the directories that its
	// package makes.
	"dhcpcd": `for d in /run /var/lib; do mount -t tmpfs tmpfs $d; done
mkdir /run/dhcpcd; install -d -o dhcpcd /var/lib/dhcpcd; { cat /etc/dhcpcd.conf; echo nodev; echo noipv6rs; } > $dir/conf
dhcpcd -B -f $dir/conf`,
}

// DHCPClientNeeds are what DHCPClient needs to run udhcpc, dhclient or dhcpcd.
func DHCPClientNeeds(name string) []lab.Need {
	program := name
	if name == "udhcpc" {
		program = "busybox"
	}
	return []lab.Need{lab.Root, lab.Program(program), lab.Program("dnsmasq")}
}

// DHCPClient runs the real client on eth0. It returns the address when eth0 has one.
func DHCPClient(t testing.TB, name string) (address string, stop func()) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(udhcpcScript), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// The helpers of dhcpcd outlive it, but not their PID namespace, which ends with this
	// shell.
	stop = lab.Daemon(t, "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "sh", "-ec",
		"dir="+dir+"; mount --bind $dir/resolv.conf /etc/resolv.conf\n"+dhcpClients[name]+"\nexit 0")
	return Leased(t), stop
}

// Leased returns the address of eth0 when eth0 has one and a default route.
func Leased(t testing.TB) (address string) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "a lease on eth0", func() bool {
		out, _ := lab.Try("ip -4 -o addr show dev eth0 scope global | sed -n 's/.* inet \\([^/]*\\).*/\\1/p'; ip route show default dev eth0")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		address = lines[0]
		return len(lines) > 1 && strings.HasPrefix(address, "192.0.2.")
	})
	return address
}
