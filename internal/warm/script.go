package warm

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/profiles"
)

// seedByPerl and seedByPython mix what they read, in hexadecimal digits, into the kernel's
// random numbers, and have it draw its own anew: RNDADDENTROPY and RNDRESEEDCRNG of random(4).
// Until then two clones would draw the same.
const (
	seedByPerl   = `open F, ">", "/dev/urandom" or die; $s = pack("H*", <STDIN>); ioctl(F, 0x40085203, pack("ii", 8 * length $s, length $s) . $s) or die; ioctl(F, 0x5207, 0)`
	seedByPython = `import fcntl, struct, sys
s = bytes.fromhex(sys.stdin.read())
f = open("/dev/urandom", "wb", 0)
fcntl.ioctl(f, 0x40085203, struct.pack("ii", 8 * len(s), len(s)) + s)
fcntl.ioctl(f, 0x5207)`
)

// script makes a guest that waits, see settleScript, the one that the identity is of. Under TCG
// each process of the guest takes 10 to 20 ms: the shell does itself what it can.
func (id Identity) script() string {
	var b strings.Builder
	fmt.Fprintf(&b, `read -r service 2>/dev/null < %[1]s || { echo "it does not wait for that"; exit 1; }
rm %[1]s
date -u -s @%[2]d.%03[3]d >/dev/null
if command -v perl >/dev/null; then printf %%s %[4]s | perl -e '%[5]s'
else printf %%s %[4]s | python3 -c '%[6]s'
fi || { echo "it takes no random seed"; exit 1; }
`, waits, id.Now.Unix(), id.Now.Nanosecond()/1e6, hex.EncodeToString(id.entropy), seedByPerl, seedByPython)
	b.WriteString(id.addresses())
	b.WriteString(id.names())
	b.WriteString(id.hostKeys())
	b.WriteString(id.instance())
	b.WriteString("systemctl start --no-block $service\nexit 0\n")
	return b.String()
}

// addresses gives each link its address, and writes that into the files by which the guest knows
// its links.
func (id Identity) addresses() string {
	var b strings.Builder
	b.WriteString("edits= known=\n")
	for i, n := range id.Settings.NICs {
		if n.Mode == profiles.None {
			continue
		}
		fmt.Fprintf(&b, `read -r was < /sys/class/net/%[1]s/address
ip link set dev %[1]s address %[2]s || { echo "its link %[1]s takes no other address"; exit 1; }
edits="$edits;s/$was/%[2]s/g" known="$known -e $was"
`, firstboot.LinkName(i), n.MAC)
		if n.IPv6 { // the link-local address is that of the old MAC, and so are others
			fmt.Fprintf(&b, "for off in 1 0; do echo $off > /proc/sys/net/ipv6/conf/%s/disable_ipv6; done\n", firstboot.LinkName(i))
		}
	}
	b.WriteString(`if [ -n "$known" ]; then
	files=$(grep -rlsF $known /etc/systemd/network /run/systemd/network /etc/netplan /etc/network /etc/udev/rules.d /etc/NetworkManager /etc/sysconfig/network-scripts)
	[ -z "$files" ] || sed -i "${edits#;}" $files
fi
`)
	return b.String()
}

// names sets host name and machine-id. journald goes on writing to its files, and the guest's
// user finds them by the machine-id.
func (id Identity) names() string {
	return fmt.Sprintf(`echo %[1]s > /etc/hostname
echo %[1]s > /proc/sys/kernel/hostname
[ ! -e /var/lib/cloud/data/previous-hostname ] || echo %[1]s > /var/lib/cloud/data/previous-hostname
sed -i 's/%[2]s/%[1]s/g' /etc/hosts
read -r was < /etc/machine-id
echo %[3]s > /etc/machine-id
[ ! -f /var/lib/dbus/machine-id ] || [ -L /var/lib/dbus/machine-id ] || echo %[3]s > /var/lib/dbus/machine-id
for dir in /run/log/journal /var/log/journal; do
	[ ! -d $dir/$was ] || mv $dir/$was $dir/%[3]s
done
`, id.Settings.Hostname, id.Was, id.machineID)
}

// hostKeys replaces the keys of the SSH server. Before 9.8, it reads them for each connection
// (sshd.c of OpenSSH: it executes itself, and loads them then), and so does one that a socket
// starts. A later one, which has a program sshd-session, reads them when it starts.
func (id Identity) hostKeys() string {
	var b strings.Builder
	b.WriteString("rm -f /etc/ssh/ssh_host_*\n")
	for _, k := range id.Settings.HostKeys {
		file := "/etc/ssh/ssh_host_" + firstboot.KeyName(k) + "_key"
		fmt.Fprintf(&b, "umask 077\nprintf '%%s\\n' '%s' > %s\numask 022\necho '%s' > %s.pub\n", strings.TrimRight(k.Private, "\n"), file, k.Public, file)
	}
	b.WriteString(`if command -v restorecon >/dev/null; then restorecon -R /etc/ssh /etc/hostname /etc/hosts /etc/machine-id; fi
if [ ! -e /usr/lib/openssh/sshd-session ] && [ ! -e /usr/libexec/openssh/sshd-session ] && [ ! -e /usr/lib/ssh/sshd-session ]; then :
elif read -r pid 2>/dev/null < /run/sshd.pid && kill -HUP "$pid" 2>/dev/null; then :
else systemctl try-restart --no-block ssh sshd 2>/dev/null
fi
`)
	return b.String()
}

// instance has cloud-init take the clone's own seed for that of this first boot: its next boot
// does nothing of it again.
func (id Identity) instance() string {
	return fmt.Sprintf(`cd /var/lib/cloud
read -r was < data/instance-id
if [ -d instances/$was ]; then
	mv instances/$was instances/%[1]s && ln -sfn /var/lib/cloud/instances/%[1]s instance
	rm -f instances/%[1]s/obj.pkl
fi
echo %[1]s > data/instance-id
echo %[1]s > /run/cloud-init/.instance-id
for file in /run/cloud-init/instance-data.json /run/cloud-init/instance-data-sensitive.json; do
	[ ! -e $file ] || sed -i "s/$was/%[1]s/g;s/%[2]s/%[3]s/g" $file
done
`, id.Settings.InstanceID(), id.Was, id.Settings.Hostname)
}
