package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// permissions is a row of the table in docs/files.md.
type permissions struct {
	path        string // "RUN/vms/VM"
	pattern     *regexp.Regexp
	roots, mine string // "0755"; "" where there is no such file
}

// documented reads the table of docs/files.md.
func documented(t *testing.T) []permissions {
	t.Helper()
	page, err := os.ReadFile("../docs/files.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []permissions
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\d*) ?\\| (\\d*) ?\\|").FindAllStringSubmatch(string(page), -1) {
		pattern := strings.NewReplacer("VM", "[^/]+", "NETWORK", "[^/]+", ".", `\.`).Replace(row[1])
		rows = append(rows, permissions{row[1], regexp.MustCompile("^" + pattern + "$"), row[2], row[3]})
	}
	if len(rows) < 20 {
		t.Fatalf("only %d rows", len(rows))
	}
	return rows
}

// followsTable compares what is in a run and a state directory with the table.
func followsTable(t *testing.T, run, state string, bits func(permissions) string) {
	t.Helper()
	rows, seen := documented(t), map[string]bool{}
	for name, dir := range map[string]string{"STATE": state, "RUN": run} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if path == run && name == "STATE" {
				return fs.SkipDir // a user's run directory is in the state directory
			}
			short := name + strings.TrimPrefix(path, dir)
			if short == "RUN/locks/plan" {
				return nil // there only while a keeper looks at the host
			}
			for _, row := range rows {
				if row.pattern.MatchString(short) {
					seen[row.path] = true
					if want := bits(row); fmt.Sprintf("%04o", info.Mode().Perm()) != want {
						t.Errorf("%s has %04o, want %q", path, info.Mode().Perm(), want)
					}
					return nil
				}
			}
			t.Errorf("%s is not in the table", path)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, row := range rows {
		if bits(row) != "" && !seen[row.path] {
			t.Errorf("there is no %s", row.path)
		}
	}
}

// under runs a command with a umask and an environment, and returns its exit code and what
// it said.
func (l *testHost) under(umask int, as *syscall.Credential, env []string, args ...string) (code int, talk string) {
	l.Helper()
	p := l.command(args...)
	p.Env = append(p.Env, env...)
	if as != nil {
		p.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	old := syscall.Umask(umask)
	p.begin()
	syscall.Umask(old)
	return p.end(60 * time.Second), p.errout.String()
}

// Whatever the umask of who runs a VM, every file has the permissions that it needs, and the
// user behind sudo sees the VM and stops it.
func TestPermissions(t *testing.T) {
	umasks := []int{0, 0o002, 0o022, 0o027, 0o077, 0o777}
	if testing.Short() {
		umasks = []int{0o077}
	}
	inLab(t, func(l *testHost) {
		nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
		nat, user := l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n[network.nat]\nipv6 = \"auto\"\n"), l.profile("mine", idle+"[[nic]]\nmode = \"user\"\n")
		for _, umask := range umasks {
			for who, sudo := range map[string]string{"root": "", "sudo": "65534"} {
				t.Logf("umask %04o, %s", umask, who)
				l.run = filepath.Join(l.dir, who+strconv.FormatInt(int64(umask), 8), "new", "run") // as are the two above it
				state := filepath.Join(filepath.Dir(l.run), "state")
				l.env = append(l.env, "QNET_RUN_DIR="+l.run, "QNET_STATE_DIR="+state, "SUDO_UID="+sudo, "SUDO_GID="+sudo)
				if code, talk := l.under(umask, nil, nil, "run", "-d", nat); code != 0 {
					t.Errorf("run: exit code %d\n%s", code, talk)
				}
				followsTable(t, l.run, state, func(p permissions) string { return p.roots })
				if sudo != "" {
					if _, out, talk := l.asUser("ps"); !strings.Contains(out, "vm ") {
						t.Errorf("the user's ps: %s\n%s", out, talk)
					}
					if _, out, talk := l.asUser("plan", nat); !strings.Contains(out, "# network nat") {
						t.Errorf("the user's plan: %s\n%s", out, talk)
					}
					if code, _, talk := l.asUser("stop", "--force", "vm"); code != 0 {
						t.Errorf("the user's stop: exit code %d\n%s", code, talk)
					}
				} else {
					l.must("stop", "--force", "vm")
				}
			}
			home := filepath.Join(l.dir, fmt.Sprintf("home%o", umask))
			lab.Sh(t, "install -d -o 65534 "+home)
			env := []string{"QNET_RUN_DIR=", "QNET_STATE_DIR=", "XDG_STATE_HOME=", "SUDO_UID=", "HOME=" + home}
			if code, talk := l.under(umask, nobody, env, "run", "-d", user); code != 0 {
				t.Errorf("mode user: exit code %d\n%s", code, talk)
			}
			state := filepath.Join(home, ".local/state/qnet")
			followsTable(t, filepath.Join(state, "run"), state, func(p permissions) string { return p.mine })
			if code, talk := l.under(umask, nobody, env, "stop", "--force", "mine"); code != 0 {
				t.Errorf("mode user, stop: exit code %d\n%s", code, talk)
			}
		}
	})
}

// What an older qnet left under umask 077 is put right by the next run. What an administrator
// closed is not, but for qnet's own, and a user who cannot reach the logs hears so.
func TestOldPermissions(t *testing.T) {
	inLab(t, func(l *testHost) {
		state, closed := filepath.Join(l.dir, "state"), filepath.Join(l.dir, "closed")
		lab.Sh(t, "mkdir -m 700 "+closed)
		l.env = append(l.env, "SUDO_UID=65534", "SUDO_GID=65534")
		nat := l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n[network.nat]\nipv6 = \"auto\"\n")
		l.must("run", "-d", nat)
		other := l.profile("other", idle+"[[nic]]\nmode = \"host-only\"\n")
		for _, dir := range []string{l.run, state} {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !strings.Contains(path, "/logs/") { // those are the user's
					info, statErr := d.Info()
					err = errors.Join(statErr, os.Chmod(path, info.Mode().Perm()&0o700))
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, out, _ := l.asUser("ps"); strings.Contains(out, "vm ") {
			t.Fatalf("the directories are not closed:\n%s", out)
		}
		l.refused(exitUsage, []string{"open log directory", "permission denied", "your own rights"}, "--state-dir", closed+"/state", "run", other)
		l.must("run", "-d", other)
		for _, name := range []string{"vm", "other"} {
			if code, _, talk := l.asUser("stop", "--force", name); code != 0 {
				t.Errorf("the user's stop: exit code %d\n%s", code, talk)
			}
		}
		if got := strings.TrimSpace(lab.Sh(t, "stat -c %a "+closed)); got != "700" {
			t.Errorf("the administrator's directory has %s", got)
		}
		l.must("run", "-d", nat)
		followsTable(t, l.run, state, func(p permissions) string { return p.roots })
		l.must("stop", "--force", "vm")
	})
}
