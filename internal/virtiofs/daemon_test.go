package virtiofs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lab"
)

// patience bounds the wait for a process that is to end.
const patience = 10 * time.Second

// field returns a line of /proc/PID/status, once it is the wanted one: virtiofsd gives up
// the rest of its rights when it runs.
func field(t *testing.T, pid int, name, want string) string {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if got := fieldNow(t, pid, name); got == want || time.Now().After(end) {
			return got
		}
	}
}

func fieldNow(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// virtiofsd has no rights but to the folder, for the caller and for the user behind sudo.
func TestConfined(t *testing.T) {
	users := map[string]*asuser.User{"caller": nil}
	if os.Geteuid() == 0 && lab.Root.OK() {
		users["user behind sudo"] = &asuser.User{UID: 64001, GID: 64002, Groups: []uint32{64002, 64003}}
	}
	for name, user := range users {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			o.User = user
			d := begin(t, Share{Folder: folder(t)}, o)
			uid, gid, groups := os.Geteuid(), os.Getegid(), ""
			if user != nil {
				uid, gid, groups = 64001, 64002, "64002 64003"
			}
			ids := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }
			const files = "000000000000001b" // CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID
			for name, want := range map[string]string{
				"Uid": ids(uid), "Gid": ids(gid), "NoNewPrivs": "1", "Seccomp": "2", "CapPrm": files, "CapEff": files,
			} {
				if got := field(t, d.PID(), name, want); got != want {
					t.Errorf("%s: got %s, want %s", name, got, want)
				}
			}
			if got := field(t, d.PID(), "Groups", groups); user != nil && got != groups {
				t.Errorf("groups: got %s, want %s", got, groups)
			}
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", d.PID())); strings.Join(strings.Fields(string(b)), " ") != fmt.Sprintf("1000 %d 1", uid) {
				t.Errorf("users: %q", b)
			}
			checkNamespaces(t, d.PID())
			checkMounts(t, d.PID())
		})
	}
}

func checkNamespaces(t *testing.T, pid int) {
	t.Helper()
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		if ours, _ := os.Readlink("/proc/self/ns/" + ns); ours == theirs {
			t.Errorf("it is in our %s namespace", ns)
		}
	}
}

// checkMounts looks for what virtiofsd could see and change besides the folder.
func checkMounts(t *testing.T, pid int) {
	t.Helper()
	root := fmt.Sprintf("/proc/%d/root", pid)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"file", "share", "usr", "lib", "lib32", "lib64", "bin", "sbin", "etc", "proc", "nix", "gnu"}
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) && !strings.HasPrefix(os.Getenv("QNET_VIRTIOFSD"), "/"+e.Name()+"/") {
			t.Errorf("its root has %s", e.Name())
		}
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		t.Fatal(err)
	}
	writable := regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ (\S+) rw,`)
	for _, m := range writable.FindAllSubmatch(mounts, -1) {
		if at := string(m[1]); at != "/" && at != folderAt { // with a chroot, the folder is its root
			t.Errorf("it can write to %s", at)
		}
	}
	if !bytes.Contains(mounts, []byte("nosuid,nodev")) {
		t.Errorf("mounts:\n%s", mounts)
	}
}

// ended waits for the end of a process that is another's child.
func ended(t *testing.T, pid int, act func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	act()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n == 1 && err == nil {
			return
		}
	}
	t.Errorf("process %d lives", pid)
	unix.Kill(pid, unix.SIGKILL)
}

// virtiofsd ends when qnet is killed, when QEMU's connection ends, and by Stop.
func TestEnds(t *testing.T) {
	o := options(t)
	t.Run("qnet is killed", func(t *testing.T) {
		dir := folder(t).Name()
		starter := again("start", dir)
		in, _ := starter.StdinPipe()
		defer in.Close()
		out, err := starter.StdoutPipe()
		if err == nil {
			err = starter.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var pid int
		if _, err := fmt.Fscan(out, &pid); err != nil {
			t.Fatal(err)
		}
		ended(t, pid, func() {
			starter.Process.Kill()
			starter.Wait()
		})
	})
	t.Run("QEMU ends", func(t *testing.T) {
		d := begin(t, Share{Folder: folder(t)}, o)
		ended(t, d.PID(), func() { d.Socket().Close() })
		<-d.Done()
		if err := d.Err(); err == nil || !strings.Contains(err.Error(), "virtiofsd of folder") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("stop", func(t *testing.T) {
		d := begin(t, Share{Folder: folder(t)}, o)
		if d.Err() != nil {
			t.Error(d.Err())
		}
		ended(t, d.PID(), func() {
			if err := d.Stop(); err != nil {
				t.Error(err)
			}
		})
	})
}

// The socket's name is gone before anybody can use it.
func TestNoSocketStays(t *testing.T) {
	o := options(t)
	begin(t, Share{Folder: folder(t)}, o)
	if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestProgramsThatDoNotDo(t *testing.T) {
	dir := folder(t).Name()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho no idea >&2; exit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for named, want := range map[string]string{
		"/nowhere/virtiofsd":       "no such file or directory",
		dir:                        "it is not a file",
		filepath.Join(dir, "file"): "it is not executable",
	} {
		if _, err := Find(named); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), named) {
			t.Errorf("%s: got %v", named, err)
		}
	}
	o := options(t)
	for path, want := range map[string]string{
		program:     "exit status 7: no idea",
		"/bin/echo": "it is no virtiofsd",
	} {
		o.Program = path
		if d, err := Start(Share{Folder: folder(t)}, o); err == nil || !strings.Contains(err.Error(), want) || d != nil {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// The error tells of a folder that was removed after it was opened, and nothing runs on.
func TestFolderVanishes(t *testing.T) {
	o, f := options(t), folder(t)
	if err := os.RemoveAll(f.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Share{Folder: f}, o); err == nil || !strings.Contains(err.Error(), "the folder was removed meanwhile") {
		t.Errorf("got %v", err)
	}
}

// Where the kernel gives users no namespaces, the error says so and what to do.
func TestNoNamespaces(t *testing.T) {
	options(t)
	cmd := again("start", folder(t).Name())
	cmd.Env = append(os.Environ(), "QNET_TEST_NAMESPACES=0")
	id := []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: id, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "this host does not let virtiofsd be confined to the folder") {
		t.Errorf("got %v: %s", err, out)
	}
}

// The stage says what it is to a user who calls it.
func TestStageOfAUser(t *testing.T) {
	out, err := again("virtiofs", "{}").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "for qnet itself") {
		t.Errorf("got %v: %s", err, out)
	}
}
