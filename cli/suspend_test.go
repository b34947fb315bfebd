package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/snapshots"
)

// qcow2 makes a disk for a profile.
func (l *testHost) qcow2(name string) (path, profile string) {
	l.Helper()
	path = filepath.Join(l.dir, name+".qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, "64M").CombinedOutput(); err != nil {
		l.Fatalf("%v\n%s", err, out)
	}
	return path, fmt.Sprintf("[[disk]]\nfile = %q\nformat = \"qcow2\"\n", path)
}

// memory is the directory of what is saved of a VM, and whether there is any.
func (l *testHost) memory(name string) (dir string, there bool) {
	dir = filepath.Join(l.dir, "state/vms", name, "memory")
	_, err := os.Stat(dir)
	return dir, err == nil
}

// A guest goes on where it was: its memory, its address, its disk; and nothing of it is left
// meanwhile but its files. It is paused, and put back to a snapshot.
func TestSuspendAndResume(t *testing.T) {
	inLab(t, func(l *testHost) {
		disk, disks := l.qcow2("g")
		path := l.profile("g", vm(l, "g", "qnet.net0=dhcp qnet.shell")+disks+"[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\n")
		c := l.boot("g", strings.TrimSpace(read(t, path)))
		address := strings.TrimSpace(l.must("ip", "g"))
		c.must("X=kept")

		l.must("pause", "g")
		l.becomes("g", "paused (by qnet pause)", 0)
		if out, err := exec.Command("ping", "-c1", "-W1", address).CombinedOutput(); err == nil {
			t.Errorf("a paused guest answers:\n%s", out)
		}
		l.must("resume", "g")
		l.becomes("g", "running", 0)
		if _, _, said := l.qnet("resume", "g"); !strings.Contains(said, "runs already") {
			t.Errorf("resume of a guest that runs: %q", said)
		}

		l.snapshots(c)
		l.suspendsAndResumes(c, address)
		c = l.shell2("g")
		if got := c.must("echo $X"); !strings.Contains(got, "kept") {
			t.Errorf("the guest's shell has %q", got)
		}
		l.must("suspend", "g")
		l.isNotResumed("g", path, disk)
		l.must("resume", "--discard", "g")
		if _, there := l.memory("g"); there {
			t.Error("what was discarded is there")
		}
		l.must("stop", "--force", "g")
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shell2 connects to the shell of a guest that has booted in another QEMU.
func (l *testHost) shell2(name string) *console {
	l.Helper()
	c := &console{l: l, name: name, view: l.command("console", name), count: 100}
	var err error
	if c.keys, err = c.view.StdinPipe(); err != nil {
		l.Fatal(err)
	}
	c.view.begin()
	return c
}

// snapshots takes one, changes the guest, and puts it back.
func (l *testHost) snapshots(c *console) {
	l.Helper()
	l.must("snapshot", "save", "g", "clean")
	l.refused(exitFailure, []string{"clean", "has a snapshot of that name"}, "snapshot", "save", "g", "clean")
	var list []snapshots.Snapshot
	if err := json.Unmarshal([]byte(l.must("snapshot", "ls", "--json", "g")), &list); err != nil || len(list) != 1 || list[0].Tag != "clean" || list[0].Memory < 1<<20 {
		l.Errorf("got %+v, %v", list, err)
	}
	c.must("Y=changed; dd if=/dev/urandom of=/dev/vda bs=64k count=1 conv=fsync 2>/dev/null")
	l.must("snapshot", "restore", "g", "clean")
	if got := c.must("echo y=$Y; head -c 64k /dev/vda | tr -d '\\000' | wc -c"); !strings.Contains(got, "y=\r\n0\r\n") {
		l.Errorf("put back, the guest has %q", got)
	}
	l.must("snapshot", "rm", "g", "clean")
	l.refused(exitFailure, []string{"no such snapshot"}, "snapshot", "restore", "g", "clean")
	l.refused(exitUsage, []string{"TAG", "7", "allowed"}, "snapshot", "save", "g", "7")
}

// suspendsAndResumes suspends the VM, sees that nothing runs, and resumes it.
func (l *testHost) suspendsAndResumes(c *console, address string) {
	l.Helper()
	l.must("suspend", "g")
	c.view.end(10 * time.Second)
	l.before.Check(l.T) // no tap, bridge, rule, process
	dir, _ := l.memory("g")
	for _, name := range []string{"", "state", "record.json"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			l.Errorf("%s: %v, %v: others may look", name, info, err)
		}
	}
	began := time.Now()
	l.must("resume", "g")
	l.Log("resumed after", time.Since(began))
	if _, there := l.memory("g"); there {
		l.Error("a state that was gone on from is kept")
	}
	if got := strings.TrimSpace(l.must("wait", "--for", "ping", "--timeout", "20s", "g")); got != address {
		l.Errorf("its address is %s, and was %s", got, address)
	}
}

// isNotResumed changes the disk and the profile of a suspended VM, which then does not go on,
// and keeps what was saved.
func (l *testHost) isNotResumed(name, profile, disk string) {
	l.Helper()
	var st unix.Stat_t
	if err := unix.Stat(disk, &st); err != nil {
		l.Fatal(err)
	}
	was := time.Unix(st.Mtim.Unix())
	if err := os.Chtimes(disk, time.Time{}, was.Add(time.Second)); err != nil {
		l.Fatal(err)
	}
	l.refused(exitFailure, []string{"g.qcow2", "was written to since", "qnet resume --discard g"}, "resume", name)
	if err := os.Chtimes(disk, time.Time{}, was); err != nil {
		l.Fatal(err)
	}
	text := read(l.T, profile)
	l.profile(name, strings.Replace(text, "192MiB", "193MiB", 1))
	l.refused(exitFailure, []string{"its machine has", "193M", "192M", "--discard"}, "resume", name)
	l.profile(name, text)
	if _, there := l.memory(name); !there {
		l.Error("a refused resume has removed what was saved")
	}
}

// A VM whose save fails goes on; one that is killed meanwhile boots, as by a power cut. No
// half of a state is ever gone on from.
func TestSuspendInterrupted(t *testing.T) {
	for _, c := range []struct{ point, action, want string }{
		{"supervisor:saved_did_write#1", fail, "running"},
		{"supervisor:saved_did_write#1", killQEMU, "saved"},
		{"supervisor:saved_did_write#1", killSupervisor, ""},
		{"supervisor:saved_is_about_to_keep#1", fail, "running"},
		{"supervisor:saved_is_about_to_keep#1", killSupervisor, ""},
		{"supervisor:saved_did_keep#1", killSupervisor, "saved"},
	} {
		t.Run(strings.TrimPrefix(c.point, "supervisor:")+" "+c.action, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				path := l.profile("g", vm(l, "g", guest.Script("echo begun; sleep 1000"))+"[[nic]]\nmode = \"private\"\n")
				l.must("run", "-d", path)
				lab.Sh(t, fmt.Sprintf("echo -n '%s %s' > %s/failpoint", c.point, c.action, l.dir))
				l.must("stop", "--force", "g")
				l.must("run", "-d", path) // under the failpoint: processes read it when they begin
				code, _, said := l.qnet("suspend", "g")
				if (code == exitOK) != (c.action == killQEMU) {
					t.Errorf("suspend: exit code %d, %s", code, said)
				}
				_, there := l.memory("g")
				if there != (c.want == "saved") {
					t.Errorf("there is a state: %t", there)
				}
				if c.want == "running" {
					l.becomes("g", "running", time.Second)
					l.must("suspend", "g")
					l.must("run", "-d", path)
				} else {
					l.qnet("gc")
					l.must("run", "-d", path)
				}
				l.becomes("g", "running", time.Second)
				left, _ := filepath.Glob(filepath.Join(l.dir, "state/vms/g/memory*"))
				if len(left) > 0 {
					t.Errorf("left: %v", left)
				}
				l.must("stop", "--force", "g")
			})
		})
	}
}

// Behind sudo, a VM that kept nothing before is saved for its user, in a state directory of
// root's, too.
func TestSuspendBehindSudo(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "chmod 755 "+l.dir)
		l.env = append(l.env, "SUDO_UID=64001", "SUDO_GID=64001")
		path := l.profile("g", vm(l, "g", guest.Script("echo begun; sleep 1000"))+"[[nic]]\nmode = \"private\"\n")
		l.must("run", "-d", path)
		l.must("suspend", "g")
		dir, there := l.memory("g")
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "state"), &st); !there || err != nil || st.Uid != 64001 {
			t.Errorf("there %v, of %d, %v", there, st.Uid, err)
		}
		l.must("resume", "g")
		l.must("stop", "--force", "g")
	})
}

// A state that cannot be loaded is kept, and the VM boots when its user says so. A guest that
// cannot be saved, because there is no room, goes on.
func TestResumeFails(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("g", vm(l, "g", guest.Script("echo begun; sleep 1000"))+"[[nic]]\nmode = \"private\"\n")
		vms := filepath.Join(l.dir, "state/vms")
		lab.Sh(t, "mkdir -p "+vms)
		if err := unix.Mount("none", vms, "tmpfs", 0, "size=256k,mode=755"); err != nil {
			t.Fatal(err)
		}
		l.must("run", "-d", path)
		if code, _, said := l.qnet("suspend", "g"); code != exitFailure || !strings.Contains(said, "space") {
			t.Errorf("without room: exit code %d, %s", code, said)
		}
		l.becomes("g", "running", time.Second)
		if err := unix.Unmount(vms, 0); err != nil {
			t.Fatal(err)
		}
		l.must("suspend", "g")
		dir, _ := l.memory("g")
		state := filepath.Join(dir, "state")
		var r saved.Record
		if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, "record.json"))), &r); err != nil || r.Machine.Type == "q35" || r.Profile != path {
			t.Errorf("got %+v, %v", r, err)
		}
		lab.Sh(t, fmt.Sprintf("dd if=/dev/urandom of=%s bs=1k seek=1 count=100 conv=notrunc 2>/dev/null", state))
		l.refused(exitQEMU, []string{"cannot go on", "--discard"}, "run", path)
		if _, there := l.memory("g"); !there {
			t.Error("a failed resume has removed what was saved")
		}
		lab.Sh(t, "truncate -s 1M "+state)
		l.refused(exitFailure, []string{"1048576 bytes"}, "run", path)
		l.must("run", "-d", "--fresh", path)
		l.becomes("g", "running", time.Second)
		l.must("stop", "--force", "g")
	})
}

// What cannot be suspended or kept in a snapshot says why, and runs on.
func TestSuspendRefuses(t *testing.T) {
	inLab(t, func(l *testHost) {
		_, disks := l.qcow2("g")
		path := l.profile("g", vm(l, "g", guest.Script("sleep 1000"))+disks+"snapshot = true\n[[nic]]\nmode = \"private\"\n")
		l.must("run", "-d", path)
		l.refused(exitFailure, []string{"g.qcow2", "thrown away", "snapshot = true"}, "suspend", "g")
		l.refused(exitFailure, []string{"g.qcow2", "thrown away"}, "snapshot", "save", "g")
		l.must("pause", "g")
		l.must("stop", "--timeout", "1s", "g")
		l.refused(exitFailure, []string{"not running"}, "suspend", "g")
		l.refused(exitFailure, []string{"not running", "was not suspended"}, "resume", "g")
		l.refused(exitUsage, []string{"save, ls, restore or rm"}, "snapshot", "g")
	})
}
