package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/doctor"
	"github.com/qnet-vm/qnet/internal/lab"
)

// hide puts an empty directory in the place of one with QEMU's files.
func (l *testHost) hide(dir string) {
	l.Helper()
	if _, err := os.Stat(dir); err != nil {
		l.Skip("this distribution keeps QEMU's files elsewhere than in " + dir)
	}
	empty := filepath.Join(l.dir, "empty")
	if err := os.MkdirAll(empty, 0o755); err != nil {
		l.Fatal(err)
	}
	if err := unix.Mount(empty, dir, "", unix.MS_BIND, ""); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// Without QEMU's boot ROMs, a VM that may boot from the network is refused, with the package
// that has them. doctor of its profile says so. Others need none.
func TestMissingBootROMs(t *testing.T) {
	inLab(t, func(l *testHost) {
		nat := "[[nic]]\nmode = \"nat\"\n"
		diskless := l.profile("diskless", idle+nat)
		disk := l.profile("disk", idle+l.disk("d.raw", "")+nat)
		pxe := l.profile("pxe", idle+l.disk("p.raw", "")+nat+"[network.nat.pxe]\nfile = \"x\"\n")
		bridged := l.profile("bridged", idle+l.disk("b.raw", "")+"[[nic]]\nmode = \"private\"\n")
		l.hide("/usr/lib/ipxe/qemu")
		for _, profile := range []string{diskless, pxe, bridged} {
			l.refused(exitIncapable, []string{"QEMU's file efi-virtio.rom is not installed", "hint: install it: apt install ipxe-qemu (Fedora: ipxe-roms-qemu"}, "run", profile)
			code, r := l.examine(profile)
			if s, words := found(r, "guests run"); code != exitIncapable || s != doctor.Fail || !strings.Contains(words, "apt install ipxe-qemu") {
				t.Errorf("doctor: exit code %d, %s: %s", code, s, words)
			}
		}
		if s, words := found(func() doctor.Report { _, r := l.examine(disk); return r }(), "guests run"); s == doctor.Fail {
			t.Errorf("doctor: %s", words)
		}
		l.must("run", "-d", disk)
		l.must("stop", "--force", "disk")
	})
}

// A kernel cannot start without QEMU's ROM for that, though QEMU runs.
func TestMissingKernelROM(t *testing.T) {
	inLab(t, func(l *testHost) {
		profile := l.profile("k", vm(l, "k", "")+"[[nic]]\nmode = \"nat\"\n")
		l.hide("/usr/share/qemu")
		l.refused(exitIncapable, []string{"linuxboot_dma.bin is not installed", "hint: install it"}, "run", profile)
		if s, words := found(func() doctor.Report { _, r := l.examine(profile); return r }(), "guests run"); s != doctor.Fail || !strings.Contains(words, "linuxboot_dma.bin") {
			t.Errorf("doctor: %s: %s", s, words)
		}
	})
}

// Root of a user namespace without the id of "nobody" is refused before anything changes,
// and doctor's remedy is the same.
func TestUserNamespaceOfOneID(t *testing.T) {
	inLab(t, func(l *testHost) {
		profile := l.profile("n", idle+"[[nic]]\nmode = \"nat\"\n")
		inside := func(args ...string) *process {
			p := l.command(args...)
			p.Env = append(p.Env, "QNET_RUN_DIR="+filepath.Join(l.dir, "r"), "QNET_STATE_DIR="+filepath.Join(l.dir, "s"))
			p.SysProcAttr = &syscall.SysProcAttr{
				Pdeathsig: syscall.SIGKILL, Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
				UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}},
			}
			p.begin()
			return p
		}
		before := lab.Snapshot(t, l.run)
		p := inside("run", profile)
		if code := p.end(20 * time.Second); code != exitIncapable || !strings.Contains(p.errout.String(), "QEMU is to run as user 65534, which this user namespace does not map\nhint: run it outside") {
			t.Errorf("exit code %d\n%s", code, &p.errout)
		}
		before.Check(t)
		p = inside("doctor", profile)
		p.end(60 * time.Second)
		if out := p.out.String(); !strings.Contains(out, "which this user namespace does not map") || strings.Contains(out, "nested virtualization") {
			t.Errorf("doctor: %s", out)
		}
	})
}
