package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
)

// baseText begins each base that tests make.
const baseText = "BASE-OF-THE-TEST"

// base makes a qcow2 image of a disk of 16 MiB, which begins with baseText.
func (l *testHost) base(name string) string {
	l.Helper()
	raw, path := filepath.Join(l.dir, name+".raw"), filepath.Join(l.dir, name)
	data := append([]byte(baseText), make([]byte, 16<<20-len(baseText))...)
	if err := os.WriteFile(raw, data, 0o644); err != nil {
		l.Fatal(err)
	}
	lab.Sh(l, fmt.Sprintf("qemu-img convert -f raw -O qcow2 %s %s && chmod 444 %s && rm %s", raw, path, path, raw))
	return path
}

// vmDir is the directory of what a VM keeps.
func (l *testHost) vmDir(name string) string { return filepath.Join(l.dir, "state", "vms", name) }

// checked lets QEMU check an image. Clusters that nothing refers to may be left by a crash:
// they hold nothing up.
func (l *testHost) checked(path string) {
	l.Helper()
	out, err := exec.Command("qemu-img", "check", path).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 3) {
		l.Errorf("check %s: %v\n%s", path, err, out)
	}
}

// once runs a guest's script to its end, and returns what the guest wrote.
func (l *testHost) once(name, path string) string {
	l.Helper()
	p := l.start("run", path)
	p.says("QNET-END rc=", bootTime)
	l.must("stop", "--force", name)
	if code := p.end(20 * time.Second); code != exitOK {
		l.Errorf("run: exit code %d\n%s", code, &p.errout)
	}
	return p.out.String()
}

// look makes a guest print how its disk begins, how many sectors it has, and what is at 20
// MiB; then it writes there.
const look = `head -c 16 /dev/vda; echo; cat /sys/block/vda/size; dd if=/dev/vda bs=1M skip=20 count=1 2>/dev/null | head -c 8; echo; echo WRITTEN- | dd of=/dev/vda bs=1M seek=20 conv=fsync 2>/dev/null`

// A VM's disk is made of its image at the first run, keeps what the guest writes, and grows;
// the image stays as it is. qnet ls, start, restart and rm know the VM by its name.
func TestDiskOfAnImage(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		base := l.base("base.qcow2")
		before, err := os.ReadFile(base)
		if err != nil {
			t.Fatal(err)
		}
		write := func(size string) string {
			text := vm(l, "g", guest.Script(look))
			return l.profile("g", strings.Replace(text, "\n[boot]", fmt.Sprintf("image = %q\nsize = %q\n[boot]", base, size), 1)+"[[nic]]\nmode = \"none\"\n")
		}
		path := write("64MiB")
		plan := l.must("plan", path)
		if want := fmt.Sprintf("# disk %s/disk.qcow2: made by a run, 64 MiB, an overlay on %s", l.vmDir("g"), base); !strings.Contains(plan, want) {
			t.Errorf("no %q in the plan:\n%s", want, plan)
		}
		if _, err := os.Stat(l.vmDir("g")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a plan makes the VM's directory: %v", err)
		}
		first := l.once("g", path)
		for _, want := range []string{baseText, "131072"} {
			if !strings.Contains(first, want) {
				t.Errorf("first run: no %q in\n%s", want, first)
			}
		}
		if strings.Contains(first, "WRITTEN-") {
			t.Errorf("first run: the disk is used\n%s", first)
		}
		write("128MiB")
		second := l.once("g", path)
		for _, want := range []string{baseText, "262144", "WRITTEN-"} {
			if !strings.Contains(second, want) {
				t.Errorf("second run: no %q in\n%s", want, second)
			}
		}
		write("32MiB")
		l.refused(exitUsage, []string{"it has 128 MiB, and the profile says 32 MiB: a disk is never made smaller", `hint: say size = "128MiB"`}, "run", path)
		write("128MiB")
		if after, err := os.ReadFile(base); err != nil || !bytes.Equal(after, before) {
			t.Errorf("the image was changed: %v", err)
		}
		l.checked(filepath.Join(l.vmDir("g"), "disk.qcow2"))

		var rows []struct {
			Name, State, Image, Profile string
			Size, Used                  int64
		}
		if err := json.Unmarshal([]byte(l.must("ls", "--json")), &rows); err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 || rows[0].Name != "g" || rows[0].State != "stopped" || rows[0].Image != base || rows[0].Profile != path || rows[0].Size != 128<<20 || rows[0].Used == 0 {
			t.Errorf("ls: %+v", rows)
		}
		l.must("rm", "g")
		if _, err := os.Stat(l.vmDir("g")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("rm leaves the VM's directory: %v", err)
		}
		l.refused(exitFailure, []string{`find VM "g"`, `hint: "qnet ls"`}, "rm", "g")
	})
}

// A VM that keeps a disk starts by its name, and is not removed while it runs.
func TestStartByName(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		path := l.profile("g", idle+fmt.Sprintf("image = %q\n", l.base("base.qcow2"))+"[[nic]]\nmode = \"none\"\n")
		l.refused(exitFailure, []string{`start VM "g": it keeps no files`}, "start", "g")
		l.must("run", "-d", path)
		l.refused(exitFailure, []string{`remove VM "g": it runs`, "hint: qnet stop g"}, "rm", "g")
		other := filepath.Join(l.dir, "other")
		if err := os.Mkdir(other, 0o755); err != nil {
			t.Fatal(err)
		}
		pid := l.state("g").QEMU
		if out := l.must("restart", "--force", "g"); out != "g\n" || l.state("g").QEMU == pid {
			t.Errorf("restart: %q", out)
		}
		l.must("stop", "--force", "g")
		if out := l.must("start", "g"); out != "g\n" {
			t.Errorf("start: %q", out)
		}
		if out := l.must("ls"); !strings.Contains(out, "g     running") {
			t.Errorf("ls: %s", out)
		}
		l.must("rm", "--force", "g")

		// Another profile of the same name does not get the disk; one that was moved does.
		l.must("run", "-d", path)
		l.must("stop", "--force", "g")
		text, err := os.ReadFile(path)
		moved := filepath.Join(other, "g.toml")
		if err := errors.Join(err, os.WriteFile(moved, text, 0o644)); err != nil {
			t.Fatal(err)
		}
		l.refused(exitUsage, []string{`it was made by profile ` + path + `, and ` + moved + ` has the same name`, "--name"}, "run", "--allow-path", l.dir, moved)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		l.refused(exitFailure, []string{"it was " + path + ", which is gone"}, "start", "g")
		code, _, talk := l.qnet("run", "-d", "--allow-path", l.dir, moved)
		if code != exitOK || !strings.Contains(talk, "its profile was "+path+", which is gone; it is "+moved+" now") {
			t.Errorf("moved: exit code %d, %s", code, talk)
		}
		l.startsAsAllowed("g", other)
		l.must("rm", "--force", "g")
	})
}

// startsAsAllowed starts a VM again whose profile names what only --allow-path let it name,
// and one that keeps no record. A run by the profile's path gets what is said then.
func (l *testHost) startsAsAllowed(name, other string) {
	l.Helper()
	says := "g: its profile may name what is below " + l.dir + ", as --allow-path of its last run said"
	for _, args := range [][]string{{"restart", "--force", name}, {"stop", "--force", name}, {"start", name}} {
		if code, _, talk := l.qnet(args...); code != exitOK || args[0] != "stop" && strings.Count(talk, says) != 1 {
			l.Errorf("%v: exit code %d, %s", args, code, talk)
		}
	}
	if out := l.must("ls", "--json"); !strings.Contains(out, fmt.Sprintf("\"allowed\": [\n      %q", l.dir)) {
		l.Errorf("ls: %s", out)
	}
	l.must("stop", "--force", name)
	l.refused(exitUsage, []string{"outside the profile's own folder", "--allow-path"}, "run", filepath.Join(other, name+".toml"))
	l.must("start", name) // what was refused changed nothing

	path := filepath.Join(other, "h.toml")
	text := idle + fmt.Sprintf("[[nic]]\nmode = \"none\"\n[[disk]]\nfile = %q\nformat = \"raw\"\nsize = \"1MiB\"\ncreate = true\n", filepath.Join(l.dir, "h.raw"))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
	l.must("run", "-d", "--allow-path", l.dir, path)
	l.must("restart", "--force", "h")
	l.must("stop", "--force", "h")
}

// A base that changes, vanishes, or is another one is refused, with what to do. Put back, it
// is the same again.
func TestBaseIsPinned(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		base := l.base("base.qcow2")
		for name, more := range map[string]string{
			"image":   fmt.Sprintf("image = %q\n", base) + "[[nic]]\nmode = \"none\"\n",
			"overlay": "[[nic]]\nmode = \"none\"\n" + fmt.Sprintf("[[disk]]\nbase = %q\n", base),
			"file":    "[[nic]]\nmode = \"none\"\n" + fmt.Sprintf("[[disk]]\nbase = %q\nfile = %q\n", base, filepath.Join(l.dir, "o.qcow2")),
		} {
			path := l.profile(name, idle+more)
			l.must("run", "-d", path)
			l.must("stop", "--force", name)
			lab.Sh(l, fmt.Sprintf("cp -p %[1]s %[1]s.kept; chmod u+w %[1]s; printf x | dd of=%[1]s bs=1 seek=70000 conv=notrunc 2>/dev/null", base))
			l.refused(exitUsage, []string{fmt.Sprintf("its base %q is not the one it was made on (sha256:", base), "hint: put back the base as it was"}, "run", path)
			lab.Sh(l, "rm "+base)
			l.refused(exitUsage, []string{base, "hint: put "}, "run", path)
			lab.Sh(l, fmt.Sprintf("mv %[1]s.kept %[1]s", base))
			l.must("run", "-d", path)
			l.must("rm", "--force", name)
		}
	})
}

// qnet dies at any moment while it makes or enlarges a disk: the next run has a disk that is
// whole, with what the guest wrote.
func TestKilledWhileADiskIsMade(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		base := l.base("base.qcow2")
		disk := filepath.Join(l.vmDir("g"), "disk.qcow2")
		write := func(size string) string {
			return l.profile("g", idle+fmt.Sprintf("image = %q\nsize = %q\n", base, size)+"[[nic]]\nmode = \"none\"\n")
		}
		failpoints := func(point string) {
			if err := os.WriteFile(filepath.Join(l.dir, "failpoint"), []byte(point+" "+killAll), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, point := range []string{
			"supervisor:atomicfile_opened#1", "supervisor:atomicfile_filled#1", "supervisor:atomicfile_named#1",
			"supervisor:supervisor_did_check#1", "supervisor:supervisor_did_launch#1", "supervisor:disk_enlarged#1",
		} {
			size := "64MiB"
			if strings.Contains(point, "enlarged") {
				l.must("run", "-d", write(size))
				l.must("stop", "--force", "g")
				size = "128MiB"
			}
			path := write(size)
			failpoints(point)
			if code, out, talk := l.qnet("run", "-d", path); code == exitOK {
				t.Errorf("%s: nothing dies\n%s\n%s", point, out, talk)
			}
			if _, err := os.Stat(filepath.Join(l.dir, "failpoint")); err == nil {
				t.Errorf("%s: no process came there", point)
			}
			if _, err := os.Stat(disk); err == nil {
				l.checked(disk)
			}
			if left, _ := filepath.Glob(filepath.Join(l.vmDir("g"), "*.new")); len(left) > 0 {
				t.Errorf("%s: left %v", point, left)
			}
			l.must("run", "-d", path)
			l.must("stop", "--force", "g")
			l.checked(disk)
			l.must("rm", "g")
		}
	})
}

// QEMU dies while its guest writes: what the guest has flushed is on the disk.
func TestKilledWhileTheGuestWrites(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		base := l.base("base.qcow2")
		script := `if dd if=/dev/vda bs=1M skip=20 count=1 2>/dev/null | grep -q FLUSHED; then echo FOUND; head -c 16 /dev/vda; exit; fi
echo FLUSHED | dd of=/dev/vda bs=1M seek=20 conv=fsync 2>/dev/null; echo BEGUN
while :; do dd if=/dev/urandom of=/dev/vda bs=64k seek=$((400+RANDOM%400)) count=3 conv=fsync 2>/dev/null; done`
		text := vm(l, "g", guest.Script(script))
		path := l.profile("g", strings.Replace(text, "\n[boot]", fmt.Sprintf("image = %q\nsize = \"64MiB\"\n[boot]", base), 1)+"[[nic]]\nmode = \"none\"\n")
		p := l.start("run", path)
		p.says("BEGUN", bootTime)
		time.Sleep(time.Second) // it writes
		if err := syscall.Kill(l.state("g").QEMU, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if code := p.end(20 * time.Second); code != exitQEMU {
			t.Errorf("exit code %d\n%s", code, &p.errout)
		}
		l.checked(filepath.Join(l.vmDir("g"), "disk.qcow2"))
		if out := l.once("g", path); !strings.Contains(out, "FOUND") || !strings.Contains(out, baseText) {
			t.Errorf("after the crash:\n%s", out)
		}
		l.must("rm", "g")
	})
}

// Disks are made when they are missing, on any bus; a full file system, and a directory in
// which the user may not write, stand in errors by their names.
func TestDisksThatAreMade(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		more := ""
		for _, bus := range []string{"virtio", "scsi", "nvme", "sata", "usb"} {
			more += fmt.Sprintf("[[disk]]\nfile = %q\ncreate = true\nsize = \"1GiB\"\nbus = %q\n", bus+".qcow2", bus)
		}
		more += "[[disk]]\nfile = \"data.raw\"\nformat = \"raw\"\ncreate = true\nsize = \"1GiB\"\n"
		if err := os.WriteFile(filepath.Join(l.dir, "cd.iso"), make([]byte, 1<<20), 0o444); err != nil {
			t.Fatal(err)
		}
		more += "[[disk]]\nfile = \"cd.iso\"\ntype = \"cdrom\"\n"
		path := l.profile("g", idle+"[[nic]]\nmode = \"none\"\n"+more)
		l.must("run", "-d", path)
		l.must("stop", "--force", "g")
		for _, name := range []string{"virtio.qcow2", "usb.qcow2"} {
			l.checked(filepath.Join(l.dir, name))
		}
		if info, err := os.Stat(filepath.Join(l.dir, "data.raw")); err != nil || info.Size() != 1<<30 {
			t.Errorf("data.raw: %v, %v", info, err)
		}
		if _, err := os.Stat(l.vmDir("g")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a VM without an image has a directory: %v", err)
		}
		full := filepath.Join(l.dir, "full")
		lab.Sh(l, fmt.Sprintf("mkdir %[1]s; mount -t tmpfs -o size=64k,mode=755 none %[1]s; head -c 60000 /dev/zero > %[1]s/x", full))
		l.Cleanup(func() { syscall.Unmount(full, syscall.MNT_DETACH) })
		l.prepared()
		path = l.profile("f", idle+"[[nic]]\nmode = \"none\"\n"+fmt.Sprintf("[[disk]]\nfile = %q\ncreate = true\nsize = \"1GiB\"\n", full+"/d.qcow2"))
		l.refused(exitFailure, []string{fmt.Sprintf("make disk %q", full+"/d.qcow2"), "no space left on device", "hint: no space is left there"}, "run", path)
		if entries, _ := os.ReadDir(full); len(entries) != 1 {
			t.Errorf("left on the full disk: %v", entries)
		}
	})
}

// An image runs without a profile: by its file, or by a name of the user's catalog. The VM has
// its name, is known by it, and gets a profile of its own when it is edited, which may name
// files anywhere.
func TestRunAnImage(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		base := l.base("My-Image_1.qcow2")
		if plan := l.must("plan", base); !strings.Contains(plan, "# disk "+l.vmDir("my-image-1")+"/disk.qcow2: made by a run, 16 MiB") || !strings.Contains(plan, "-m 2048M") {
			t.Errorf("plan: %s", plan)
		}
		for _, bad := range []string{"debian-1", "nothing-like-it"} {
			l.refused(exitUsage, []string{fmt.Sprintf("find %q: it is no file, no VM that keeps a disk, and no image of the catalog", bad)}, "run", bad)
		}
		editor := filepath.Join(l.dir, "editor")
		write := func(script string) {
			if err := os.WriteFile(editor, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		l.env = append(l.env, "VISUAL="+editor)
		// Nothing runs here: TCG would take a while for 2 GiB of memory and a NIC.
		write(`sed -i 's/^memory.*/memory = "64MiB"/; $a accel = "tcg"\n[guest]\nuser_data = "'$(dirname $0)/user-data'"\n[[nic]]\nmode = "none"' "$1"; echo '#cloud-config' > $(dirname $0)/user-data`)
		l.refused(exitUsage, nil, "edit", "no-such-vm")
		code, _, talk := l.qnet("run", "-d", "--name", "own", base)
		if code != exitOK {
			t.Fatalf("run an image: exit code %d, %s", code, talk)
		}
		l.must("stop", "--force", "own")
		if out := l.must("ls"); !strings.Contains(out, "own   stopped  "+base) {
			t.Errorf("ls: %s", out)
		}
		if plan := l.must("plan", filepath.Join(l.vmDir("own"), "vm.toml")); !strings.Contains(plan, "-m 2048M") { // as messages name it
			t.Errorf("plan of a profile that stands for an image: %s", plan)
		}
		l.must("edit", "own")
		l.must("start", "own")
		if s := l.state("own"); s.Accel != "tcg" || len(s.NICs) != 1 || s.NICs[0].Mode != "none" {
			t.Errorf("after the edit: %+v", s)
		}
		l.must("stop", "--force", "own")
		write(`echo 'memory = 1' > "$1"`)
		l.refused(exitUsage, []string{"vm.toml:1: memory: got", "hint: the file is saved as it is; qnet edit own opens it again"}, "edit", "own")
		l.must("rm", "own")

		// One that is edited before it ever ran is known like others.
		write("true")
		l.must("edit", base)
		if out := l.must("ls"); !strings.Contains(out, "my-image-1  stopped  "+base) {
			t.Errorf("ls after an edit: %s", out)
		}
		l.must("rm", "my-image-1")
		if out := l.must("ls", "--json"); out != "[]\n" {
			t.Errorf("ls: %s", out)
		}
	})
}

// The profile that init writes is right, and so is every example in it.
func TestInit(t *testing.T) {
	l := newLab(t)
	dir := filepath.Join(l.dir, "my-project")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string) {
		p := l.command(args...)
		p.Dir = dir
		p.begin()
		return p.end(20 * time.Second), p.out.String() + p.errout.String()
	}
	if code, out := run("init", "no-such-image"); code != exitUsage || !strings.Contains(out, "no-such-image") {
		t.Errorf("an unknown image: exit code %d, %s", code, out)
	}
	if code, out := run("init"); code != exitOK {
		t.Fatalf("exit code %d, %s", code, out)
	}
	if code, out := run("init"); code != exitUsage || !strings.Contains(out, "vm.toml is here already") {
		t.Errorf("a second time: exit code %d, %s", code, out)
	}
	path := filepath.Join(dir, "vm.toml")
	if code, out := run("check", path); code != exitOK {
		t.Errorf("as it is: exit code %d, %s", code, out)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `name   = "my-project"`) || !strings.Contains(string(text), `image  = "debian-12"`) {
		t.Errorf("%v\n%s", err, text)
	}
	all := regexp.MustCompile(`(?m)^#([a-z[])`).ReplaceAll(text, []byte("$1"))
	if err := os.WriteFile(path, all, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := run("check", path); code != exitOK {
		t.Errorf("with all examples: exit code %d, %s\n%s", code, out, all)
	}
}

// A guest whose disk finds no more room on the host is paused, says qnet by the disk's name,
// and goes on when there is room.
func TestNoRoomForTheOverlay(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		state := filepath.Join(l.dir, "state")
		lab.Sh(l, fmt.Sprintf("mkdir -m 755 %[1]s; mount -t tmpfs -o size=3m,mode=755 none %[1]s", state))
		l.Cleanup(func() { syscall.Unmount(state, syscall.MNT_DETACH) })
		l.prepared()
		text := vm(l, "g", guest.Script("dd if=/dev/urandom of=/dev/vda bs=1M count=8 conv=fsync 2>/dev/null && echo THROUGH"))
		path := l.profile("g", strings.Replace(text, "\n[boot]", fmt.Sprintf("image = %q\n[boot]", l.base("base.qcow2")), 1)+"[[nic]]\nmode = \"none\"\n")
		p := l.start("run", path)
		p.says("warning: VM g ", bootTime)
		l.becomes("g", "paused (no space: disk.qcow2)", time.Second)
		lab.Sh(l, "mount -o remount,size=40m "+state)
		l.must("resume", "g")
		p.says("THROUGH", bootTime)
		l.must("stop", "--force", "g")
		p.end(20 * time.Second)
		l.checked(filepath.Join(l.vmDir("g"), "disk.qcow2"))
		l.must("rm", "g")
	})
}

// What a VM keeps is listed and removed also where its record is damaged, where only its memory
// is kept, and where another run directory has it.
func TestWhatVMsKeep(t *testing.T) {
	l := newLab(t)
	lab.Sh(l, fmt.Sprintf("mkdir -p %[1]s/damaged %[1]s/asleep/memory %[1]s/held; echo '{' > %[1]s/damaged/record.json; echo '{}' > %[1]s/held/record.json; touch %[1]s/held/lock", filepath.Dir(l.vmDir("x"))))
	lock, err := os.Open(filepath.Join(l.vmDir("held"), "lock"))
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	code, out, talk := l.qnet("ls")
	for _, want := range []string{"damaged  stopped", "asleep   saved", "held     in use"} {
		if !strings.Contains(out, want) {
			t.Errorf("ls: exit code %d, no %q in\n%s", code, want, out)
		}
	}
	if !strings.Contains(talk, `note: read record of VM "damaged"`) {
		t.Errorf("ls says %q", talk)
	}
	l.refused(exitFailure, []string{`start VM "asleep"`, "hint: qnet resume asleep"}, "start", "asleep")
	l.refused(exitFailure, []string{"the VM runs, or another qnet changes its files", `hint: "qnet ls" shows`}, "rm", "held")
	l.must("rm", "damaged", "asleep")
	if list := l.must("ls"); strings.Contains(list, "damaged") || strings.Contains(list, "asleep") {
		t.Errorf("after rm:\n%s", list)
	}
}
