package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/virtiofs"
)

// virtiofsd is the need for the program that shares folders.
var virtiofsd = lab.Need{Name: "virtiofsd", OK: func() bool { _, err := virtiofs.Find(os.Getenv("QNET_VIRTIOFSD")); return err == nil }}

// serving returns the processes of virtiofsd that a VM's supervisor started.
func (l *testHost) serving(name string) (pids []int) {
	l.Helper()
	supervisor := l.state(name).PID
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, _ := os.ReadFile(path)
		fields := strings.Fields(string(b))
		if len(fields) > 3 && fields[1] == "(virtiofsd)" && fields[3] == strconv.Itoa(supervisor) {
			pid, _ := strconv.Atoi(fields[0])
			pids = append(pids, pid)
		}
	}
	return pids
}

// folders makes a profile's own folder with what it shares, for the user behind sudo.
func (l *testHost) folders() (dir, profile string) {
	l.Helper()
	dir = filepath.Join(l.dir, "project")
	lab.Sh(l.T, "mkdir -p "+dir+"/docs "+l.dir+"/secret; echo text > "+dir+"/docs/page; chown -R 64001:64001 "+dir)
	profile = filepath.Join(dir, "web.toml")
	text := vmIn(l, dir, "web", "qnet.shell") + "[[nic]]\nmode = \"none\"\n[[share]]\npath = \".\"\nmount = \"/src\"\n[[share]]\npath = \"docs\"\nmount = \"/docs\"\nreadonly = true\n"
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
	os.Chown(profile, 64001, 64001)
	l.env = append(l.env, "SUDO_UID=64001", "SUDO_GID=64001")
	return dir, profile
}

// Host and guest read and write each other's files, which belong to the user on both sides.
// The guest gets nothing else, and writes nothing that is for reading.
func TestShares(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Require(t, virtiofsd)
		dir, profile := l.folders()
		if plan := l.must("plan", profile); !strings.Contains(plan, "# share share0: "+dir+", in the guest /src, read and write") || !strings.Contains(plan, "memory-backend-memfd") {
			t.Errorf("plan:\n%s", plan)
		}
		l.must("run", "-d", profile)
		c := l.shell("web")
		c.must("mkdir /src /docs; mount -t virtiofs share0 /src && mount -t virtiofs share1 /docs")
		c.must("echo 'me:x:1000:1000::/:/bin/sh' >> /etc/passwd; echo 'other:x:33:33::/:/bin/sh' >> /etc/passwd")
		if got := c.must("cat /docs/page"); !strings.Contains(got, "text") {
			t.Errorf("the guest reads %q", got)
		}
		c.must("echo root > /src/root; su me -c 'echo me > /src/me; mkdir /src/new'; mkdir -m 777 /src/open; su other -c 'echo other > /src/open/other'")
		for _, name := range []string{"root", "me", "new", "open/other"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
				continue
			}
			if st := info.Sys().(*syscall.Stat_t); st.Uid != 64001 || st.Gid != 64001 {
				t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
			}
		}
		if out := c.must("stat -c %u:%g /src/root /src/me /docs/page"); strings.Count(out, "1000:1000") != 3 {
			t.Errorf("for the guest they belong to %s", out)
		}
		l.notLetOut(c, dir)
		l.refused(exitFailure, []string{"shares folders", "cannot be kept"}, "snapshot", "save", "web")
		l.must("stop", "--force", "web")
	})
}

// notLetOut has the guest try what it must not do.
func (l *testHost) notLetOut(c *console, dir string) {
	l.Helper()
	for why, script := range map[string]string{
		"a read-only share is written":     "echo x > /docs/new",
		"a read-only share's file changes": "chmod 600 /docs/page",
		"a read-only share is remounted":   "mount -o remount,rw /docs; echo x > /docs/new",
		"the profile is written":           "echo x >> /src/web.toml",
		"the profile is removed":           "rm -f /src/web.toml",
		"the profile is replaced":          "echo x > /src/x; mv /src/x /src/web.toml",
		"a set-user-ID bit":                "cp /bin/busybox /src/sh && chmod u+s /src/sh",
		"a set-group-ID bit":               "chmod g+s /src/new",
		"a device":                         "mknod /src/disk b 254 0",
		"another owner":                    "chown 0:0 /src/me",
		"a path above":                     "ls /src/../secret",
	} {
		c.fails(why, script)
	}
	// A link's target is looked up by who follows it: in the guest it is the guest's.
	c.must("ln -s ../secret /src/out; ln -s /etc/passwd /src/passwd; ! ls /src/out/; grep -q ^me: /src/passwd")
	if got, err := os.Readlink(filepath.Join(dir, "out")); err != nil || got != "../secret" {
		l.Errorf("the link is %q, %v", got, err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "web.toml")); err != nil || !strings.HasPrefix(string(b), `name = "web"`) {
		l.Errorf("the profile is %.40q, %v", b, err)
	}
}

// qnet tells of a virtiofsd that dies. The others end with the VM, also when its supervisor is
// killed.
func TestSharesEnd(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Require(t, virtiofsd)
		_, profile := l.folders()
		l.must("run", "-d", profile)
		c := l.shell("web")
		c.must("mkdir /src; mount -t virtiofs share0 /src; echo 1 > /src/first")
		pids := l.serving("web")
		if len(pids) != 2 {
			t.Fatalf("%d processes serve", len(pids))
		}
		unix.Kill(pids[1], unix.SIGKILL)
		for end := time.Now().Add(10 * time.Second); !strings.Contains(l.notes("web"), "programs in the guest that use"); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("nothing is said of the end of virtiofsd:\n%s", l.notes("web"))
			}
		}
		if l.state("web").State != "running" {
			t.Errorf("the VM is %s", l.state("web").State)
		}
		unix.Kill(l.state("web").PID, unix.SIGKILL)
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pids[0])); err != nil || string(b) != "virtiofsd\n" || zombie(pids[0]) {
				break
			}
			if time.Now().After(end) {
				t.Fatal("virtiofsd outlives qnet")
			}
		}
		l.must("gc")
	})
}

// zombie reports whether the process has ended and waits for its parent.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

// A share that the profile may not reach, or that cannot be served, is refused before
// anything changes.
func TestSharesRefused(t *testing.T) {
	inLab(t, func(l *testHost) {
		dir, _ := l.folders()
		lab.Sh(t, "ln -s ../secret "+dir+"/link; echo > "+dir+"/file; mkdir -m 700 "+dir+"/closed")
		secret := filepath.Join(l.dir, "secret")
		share := func(path string) string {
			file := filepath.Join(dir, "bad.toml")
			os.WriteFile(file, []byte(idle+"[[share]]\npath = \""+path+"\"\nmount = \"/src\"\n"), 0o644)
			return file
		}
		for path, words := range map[string][]string{
			"../secret": {"share", secret, "outside the profile's own folder", "--allow-path " + secret},
			"link":      {"which leads to", secret, "--allow-path"},
			"/":         {"outside the profile's own folder"},
			"none":      {"open share", "no such file or directory"},
			"file":      {"open share", "not a directory"},
			"closed":    {"open share", "permission denied", "your own rights"},
		} {
			l.refused(exitUsage, words, "run", share(path))
			if plan := l.must("plan", share(path)); !strings.Contains(plan, "# note: a run is refused") {
				t.Errorf("plan of %s:\n%s", path, plan)
			}
		}
		l.refused(exitUsage, []string{"outside the profile's own folder"}, "run", "--allow-path", dir+"/docs", share("../secret"))
		if plan := l.must("plan", "--allow-path", secret, share("link")); strings.Contains(plan, "refused") {
			t.Errorf("with --allow-path:\n%s", plan)
		}
		l.env = append(l.env, "QNET_VIRTIOFSD="+filepath.Join(l.dir, "none"))
		l.refused(exitIncapable, []string{"none", "which is to share folders, cannot be run", "QNET_VIRTIOFSD"}, "run", share("docs"))
	})
}
