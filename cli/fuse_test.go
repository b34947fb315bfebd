package cli

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
)

// A profile and its images may be on a FUSE mount of the user behind sudo, which the kernel
// keeps root out of. The guest reads and writes them.
func TestFilesThatRootMayNotSee(t *testing.T) {
	lab.Require(t, lab.Program("bindfs"), lab.Program("fusermount3"), lab.Program("setpriv"), lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		const uid = "65534" // fusermount wants an entry in passwd(5)
		d := l.dir
		lab.Sh(t, "mknod "+d+"/fuse c 10 229 && chmod 666 "+d+"/fuse && mount --bind "+d+"/fuse /dev/fuse")
		lab.Sh(t, "install -d -o "+uid+" -g "+uid+" -m 700 "+d+"/real "+d+"/home")
		lab.Sh(t, "cd "+d+"/real; qemu-img create -q -f qcow2 disk.qcow2 1M; truncate -s 1M base.raw")
		text := idle + "[[disk]]\nfile = \"disk.qcow2\"\nformat = \"qcow2\"\n[[disk]]\nfile = \"base.raw\"\nformat = \"raw\"\nsnapshot = true\n[[nic]]\nmode = \"nat\"\n"
		if err := os.WriteFile(d+"/real/fu.toml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		lab.Sh(t, "chown -R "+uid+":"+uid+" "+d+"/real; setpriv --reuid "+uid+" --regid "+uid+" --clear-groups bindfs --no-allow-other "+d+"/real "+d+"/home")
		defer unix.Unmount(d+"/home", unix.MNT_DETACH)
		if _, err := os.ReadDir(d + "/home"); !os.IsPermission(err) {
			t.Fatalf("root may enter: %v", err)
		}
		l.prepared()
		l.env = append(l.env, "SUDO_UID="+uid, "SUDO_GID="+uid)
		l.must("check", d+"/home/fu.toml")
		l.must("run", "-d", d+"/home/fu.toml")
		info := l.must("ps", "--json")
		if !strings.Contains(info, `"state": "running"`) || !strings.Contains(info, `"disk": "inode `) {
			t.Errorf("the VM: %s", info)
		}
		// QEMU has the image open for writing, and locks it.
		cmd := exec.Command("qemu-img", "info", d+"/home/disk.qcow2")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "lock") {
			t.Errorf("qemu-img info while the VM runs: %v\n%s", err, out)
		}
		l.must("stop", "--force", "fu")
	})
}
