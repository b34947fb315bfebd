package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Bad input gets exit code 2, names what is wrong, and changes nothing.
func TestBadProfiles(t *testing.T) {
	inLab(t, func(l *testHost) {
		disk := func(text string) string { return idle + "[[disk]]\n" + text }
		if err := os.WriteFile(filepath.Join(l.dir, "raw.img"), make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
		long := strings.Repeat("n", 200)
		for name, c := range map[string]struct {
			text  string
			words []string
		}{
			"unknown-key":  {idle + "memroy = 1\n", []string{"unknown-key.toml:3", "memroy"}},
			"two-problems": {"memory = \"lots\"\ncpus = 0\n", []string{":1:", "lots", ":2:", "cpus"}},
			"garbage":      {string(bytes.Repeat([]byte{0xff, 0, 7, 'x'}, 1000)), []string{"garbage.toml"}},
			"unit":         {"memory = \"1GB\"\n", []string{`"1GB"`, "MiB, GiB or TiB, such as 1GiB"}},
			"long-name":    {"name = \"" + long + "\"\n", []string{"name", "nnn"}},
			"comma-name":   {"name = \"a,b\"\n", []string{"a,b"}},
			"quote-name":   {"name = 'a\"b'\n", []string{"name"}},
			"newline-name": {"name = \"a\\nb\"\n", []string{"name"}},
			"slash-name":   {"name = \"a/b\"\n", []string{"a/b"}},
			"no-disk":      {disk("file = \"gone.qcow2\"\nformat = \"qcow2\"\n"), []string{"gone.qcow2", "no such file"}},
			"wrong-format": {disk("file = \"raw.img\"\nformat = \"qcow2\"\n"), []string{"raw.img", "qcow2"}},
			"directory":    {disk("file = \".\"\nformat = \"raw\"\n"), []string{"is a directory"}},
			"not-a-kernel": {idle + "[boot]\nkernel = \"none\"\n", []string{"none", "no such file"}},
		} {
			l.refused(exitUsage, c.words, "run", l.profile(name, c.text))
		}
		huge := filepath.Join(l.dir, "huge.toml")
		if err := os.WriteFile(huge, bytes.Repeat([]byte("a = 1\n"), 10<<20/6), 0o600); err != nil {
			t.Fatal(err)
		}
		l.refused(exitUsage, []string{"huge.toml", "256 KiB"}, "run", huge)
		l.refused(exitUsage, []string{"no such file"}, "run", filepath.Join(l.dir, "none.toml"))
		l.refused(exitUsage, []string{"PROFILE"}, "run")
		l.refused(exitUsage, []string{"behind --"}, "run", huge, "-nographic")
		l.refused(exitUsage, []string{"--name"}, "run", "--name", "A/b", huge)
		l.refused(exitUsage, []string{"unknown command"}, "begin")
		l.refused(exitUsage, []string{"colour"}, "ps", "--colour")
		l.refused(exitUsage, []string{"unknown command"}, "help", "begin")
		l.refused(exitUsage, []string{"is a directory"}, "run", l.dir)
		l.refused(exitUsage, []string{"soon", "30s"}, "stop", "--timeout", "soon", "web")
		for _, none := range []string{"0s", "-5s"} {
			l.refused(exitUsage, []string{none, "more than 0s", "--force"}, "stop", "--timeout", none, "web")
		}
		for _, command := range []string{"version", "schema", "ps", "net", "hosts", "gc"} {
			l.refused(exitUsage, []string{"no argument"}, command, "more")
		}
		deep := filepath.Join(l.dir, strings.Repeat("d", 107))
		l.refused(exitUsage, []string{"too long", "107 fit", "shorter --run-dir"}, "--run-dir", deep, "run", l.profile("deep", idle))
	})
}

// A host that lacks something gets exit code 3 and the way out.
func TestIncapableHosts(t *testing.T) {
	inLab(t, func(l *testHost) {
		nat := "[[nic]]\nmode = \"nat\"\n"
		path := l.profile("nat", idle+nat)
		pinned := func(key, value string) string { return idle + nat + "[network.nat]\n" + key + " = \"" + value + "\"\n" }
		bridge := func(uplink string) string {
			return idle + "[[nic]]\nmode = \"bridge\"\n[network.bridge]\nuplink = \"" + uplink + "\"\n"
		}
		lab.Sh(t, "ip route add 10.60.0.0/16 via 192.0.2.1; ip tuntap add tun7 mode tun; ip link add qn-mine type bridge; ip link add eth7 type veth peer name lan7; ip addr add 10.61.0.2/24 dev eth7; ip link set eth7 addrgenmode none up; ip link set lan7 addrgenmode none up; ip tuntap add qntap0 mode tap")
		for name, c := range map[string]struct {
			text  string
			words []string
		}{
			"subnet":            {pinned("subnet", "10.60.1.0/24"), []string{"10.60.1.0/24 overlaps", "10.60.0.0/16", "leave subnet out"}},
			"uplink":            {pinned("uplink", "eth9"), []string{"eth9", "no such link"}},
			"loopback":          {pinned("uplink", "lo"), []string{`"lo"`}},
			"br-absent":         {bridge("eth9"), []string{"eth9", "no such link"}},
			"br-lo":             {bridge("lo"), []string{"loopback", "nat"}},
			"br-tun":            {bridge("tun7"), []string{"tun7", "not an Ethernet NIC", "nat"}},
			"br-no-gateway":     {bridge("eth7"), []string{"eth7", "gateway", "--assume-yes"}},
			"bridge-of-another": {idle + "[[nic]]\nmode = \"private\"\nnetwork = \"mine\"\n", []string{"qn-mine", "does not bear qnet's mark", "ip -d link", "command: ip link add qn-mine "}},
			"tap":               {idle + nat, []string{"qntap0", "does not bear qnet's mark"}},
		} {
			l.refused(exitIncapable, c.words, "run", l.profile(name, c.text))
		}

		l.env = append(l.env, "QNET_QEMU=/nowhere/qemu")
		l.refused(exitIncapable, []string{"/nowhere/qemu", "apt install"}, "run", path)
		old := filepath.Join(l.dir, "old-qemu")
		if err := os.WriteFile(old, []byte("#!/bin/sh\necho QEMU emulator version 6.2.0\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		l.env = append(l.env, "QNET_QEMU="+old)
		l.refused(exitIncapable, []string{"6.2", "7.2"}, "run", path)
		l.env = append(l.env, "QNET_QEMU=")

		l.refusedAsNobody(path)
		if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		l.refused(exitIncapable, []string{"/dev/net/tun", "modprobe tun", `mode = "user"`}, "run", path)
		unix.Unmount("/dev/net", 0)
		l.prepared()
	})
}

// A link that bears qnet's mark, but not this run directory's, is not said to be
// without one.
func TestTwoRunDirectories(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("one", idle+"[[nic]]\nmode = \"private\"\n")
		l.must("run", "-d", path)
		l.refused(exitIncapable, []string{"qn-private", "another run directory"}, "--run-dir", l.dir+"/other", "run", path)
		l.must("stop", "--force", "one")
	})
}

// refusedAsNobody runs the profile without any right to the network.
// It is said before anything is made for the VM.
func (l *testHost) refusedAsNobody(path string) {
	l.Helper()
	raw := make([]byte, 1<<20)
	raw[510], raw[511] = 0x55, 0xaa
	image := filepath.Join(l.dir, "disk.raw")
	if err := os.WriteFile(image, raw, 0o644); err != nil {
		l.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	lab.Sh(l, "chmod 755 "+l.dir)
	path = l.profile("nobody", "image = \"disk.raw\"\n"+string(text))
	p := l.command("run", path)
	p.Env = append(p.Env, "QNET_RUN_DIR="+filepath.Join(l.dir, "nobody/run"), "QNET_STATE_DIR="+filepath.Join(l.dir, "nobody/state"))
	lab.Sh(l, "install -d -o 65534 "+l.dir+"/nobody")
	p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	p.begin()
	if code := p.end(20e9); code != exitIncapable {
		l.Errorf("as nobody: exit code %d", code)
	}
	for _, w := range []string{"CAP_NET_ADMIN", "sudo", `mode = "user"`} {
		if !strings.Contains(p.errout.String(), w) {
			l.Errorf("as nobody: no %q in %q", w, &p.errout)
		}
	}
	for _, dir := range []string{"images", "vms/nobody"} {
		if _, err := os.Stat(filepath.Join(l.dir, "nobody/state", dir)); err == nil {
			l.Errorf("as nobody: %s was made", dir)
		}
	}
}

// mode = "user" needs no rights at all.
func TestUserModeAsNobody(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "install -d -o 65534 "+l.dir+"/nobody")
		l.env = append(l.env, "QNET_RUN_DIR="+l.dir+"/nobody/run", "QNET_STATE_DIR="+l.dir+"/nobody/state")
		path := l.profile("u", idle+"[[nic]]\nmode = \"user\"\n")
		p := l.command("run", path, "-d")
		p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		p.begin()
		if code := p.end(20e9); code != 0 {
			t.Fatalf("exit code %d\n%s", code, &p.errout)
		}
		l.must("stop", "--force", "u")
	})
}
