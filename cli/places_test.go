package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// called runs a command as a user with an environment of nothing but PATH and vars.
func (l *testHost) called(uid uint32, dir string, vars []string, args ...string) (code int, stdout, stderr string) {
	l.Helper()
	p := l.command(args...)
	p.Dir = dir
	// Without GORACE, a process would write the race detector's log where these users may not.
	p.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "GORACE=" + os.Getenv("GORACE"), "GOCOVERDIR=" + os.Getenv("GOCOVERDIR")}, vars...)
	return p.as(uid)
}

// Where qnet keeps its files never depends on the working directory, nor on what another
// user's session left in the environment. What cannot be used is named, with the cause and
// the way out; mode user is not said to need rights.
func TestPlacesOfAUser(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.MountEmpty(t, "/run/qnet", "/var/lib/qnet")
		const uid = 4242 // without an entry in passwd(5)
		lab.Sh(t, "cd "+l.dir+"; install -d -o 4242 home cwd own; install -d ro; install -d -m 700 roots; touch file; install -d -o 4242 -m 500 locked; mkdir full readonly")
		lab.Sh(t, "mount -t tmpfs -o size=4k,nr_inodes=2,mode=777 full "+l.dir+"/full; mount -t tmpfs -o ro,uid=4242 none "+l.dir+"/readonly")
		l.prepared()
		path := l.profile("u", idle+"[[nic]]\nmode = \"user\"\n")
		d := l.dir
		for name, c := range map[string]struct {
			vars  []string
			code  int
			words []string
			place string // of control.sock, for code 0
		}{
			"no home":               {nil, exitUsage, []string{"HOME is not set", "user 4242", "QNET_RUN_DIR"}, ""},
			"a relative home":       {[]string{"HOME=home"}, exitUsage, []string{"HOME is not set to a whole path"}, ""},
			"a home":                {[]string{"HOME=" + d + "/home"}, 0, nil, "home/.local/state/qnet/run"},
			"another's run dir":     {[]string{"HOME=" + d + "/home", "XDG_RUNTIME_DIR=" + d + "/roots"}, 0, nil, "home/.local/state/qnet/run"},
			"a relative run dir":    {[]string{"HOME=" + d + "/home", "XDG_RUNTIME_DIR=run"}, 0, nil, "home/.local/state/qnet/run"},
			"a missing run dir":     {[]string{"HOME=" + d + "/home", "XDG_RUNTIME_DIR=/run/user/4242"}, 0, nil, "home/.local/state/qnet/run"},
			"an own run dir":        {[]string{"HOME=" + d + "/home", "XDG_RUNTIME_DIR=" + d + "/own"}, 0, nil, "own/qnet"},
			"a relative state home": {[]string{"HOME=" + d + "/home", "XDG_STATE_HOME=state"}, 0, nil, "home/.local/state/qnet/run"},
			"another's state home":  {[]string{"HOME=" + d + "/home", "XDG_STATE_HOME=" + d + "/ro"}, 0, nil, "home/.local/state/qnet/run"},
			"a missing home":        {[]string{"HOME=/nonexistent"}, exitUsage, []string{"use run directory /nonexistent/.local/state/qnet/run", "permission denied", "you may not write there", "--run-dir"}, ""},
			"a locked home":         {[]string{"HOME=" + d + "/locked"}, exitUsage, []string{d + "/locked/.local", "permission denied", "--run-dir"}, ""},
			"a home that is a file": {[]string{"HOME=" + d + "/file"}, exitUsage, []string{"not a directory", "a part of the path is a file"}, ""},
			"a read-only home":      {[]string{"HOME=" + d + "/readonly"}, exitIncapable, []string{"read-only file system", "mounted read-only"}, ""},
			"a full home":           {[]string{"HOME=" + d + "/full"}, exitIncapable, []string{"no space left", "make room"}, ""},
			"a long run dir":        {[]string{"HOME=" + d + "/home", "QNET_RUN_DIR=" + d + "/own/" + strings.Repeat("d", 100)}, exitUsage, []string{"107 fit", "shorter --run-dir"}, ""},
			"an unexpanded tilde":   {[]string{"HOME=" + d + "/home", "QNET_RUN_DIR=~/run"}, exitUsage, []string{`got "~/run"`, "did not expand"}, ""},
		} {
			code, _, talk := l.called(uid, d+"/cwd", c.vars, "run", "-d", path)
			if code != c.code {
				t.Errorf("%s: exit code %d, want %d\n%s", name, code, c.code, talk)
			}
			for _, w := range append(c.words, "") {
				if !strings.Contains(talk, w) || strings.Contains(talk, "CAP_NET_ADMIN") || strings.Contains(talk, `mode = "user"`) {
					t.Errorf("%s: want %q in %q", name, w, talk)
				}
			}
			if code != 0 {
				continue
			}
			if _, err := os.Stat(filepath.Join(d, c.place, "vms/u/control.sock")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if code, _, talk := l.called(uid, "/", c.vars, "stop", "--force", "u"); code != 0 {
				t.Errorf("%s: stop: %d, %s", name, code, talk)
			}
		}
		if left, err := os.ReadDir(d + "/cwd"); err != nil || len(left) != 0 {
			t.Errorf("in the working directory: %v, %v", left, err)
		}
		for _, args := range [][]string{{"check", path}, {"schema"}, {"version"}, {"--help"}, {"ssh", "--help"}} {
			if code, _, talk := l.called(uid, "/", nil, args...); code != 0 {
				t.Errorf("%v without a home: %d, %s", args, code, talk)
			}
		}
		lab.Sh(t, "umount "+d+"/full "+d+"/readonly")
	})
}

// A VM of another user is not said to be missing. With sudo, a user finds what he started
// without.
func TestVMsOfOthers(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.MountEmpty(t, "/run/qnet", "/var/lib/qnet", "/run/user")
		l.run = "/run/qnet"
		lab.Sh(t, "install -d -o 4242 -m 700 /run/user/4242; install -d -o 4242 "+l.dir+"/home; install -d -o 4343 -m 700 /run/user/4343; install -d -o 4343 "+l.dir+"/other")
		l.prepared()
		path := l.profile("mine", idle+"[[nic]]\nmode = \"user\"\n")
		mine := []string{"HOME=" + l.dir + "/home", "XDG_RUNTIME_DIR=/run/user/4242"}
		other := []string{"HOME=" + l.dir + "/other", "XDG_RUNTIME_DIR=/run/user/4343"}
		run := func(uid uint32, vars []string, args ...string) string {
			t.Helper()
			code, out, talk := l.called(uid, "/", vars, args...)
			if code != 0 {
				t.Fatalf("%v: exit code %d\n%s", args, code, talk)
			}
			return out + talk
		}
		run(4242, mine, "run", "-d", path)
		run(0, nil, "run", "-d", l.profile("roots", idle+"[[nic]]\nmode = \"user\"\n"))

		for _, args := range [][]string{{"stop", "roots"}, {"ip", "roots"}, {"console", "roots"}, {"wait", "roots"}, {"ssh", "roots"}, {"logs", "roots"}} {
			code, _, talk := l.called(4343, "/", other, args...)
			if code != exitFailure || strings.Contains(talk, "not running") || !strings.Contains(talk, "roots") || !strings.Contains(talk, "sudo qnet") {
				t.Errorf("%v of root's VM: %d, %s", args, code, talk)
			}
		}
		if _, _, talk := l.called(4343, "/", other, "stop", "roots"); !strings.Contains(talk, `VM "roots" belongs to root`) {
			t.Errorf("stop root's VM: %s", talk)
		}
		if got := run(4343, other, "ps"); strings.Contains(got, "mine") || !strings.Contains(got, "note: VMs of other users run: roots (root); sudo qnet") {
			t.Errorf("another user's ps: %s", got)
		}
		if got := run(0, nil, "ps"); !strings.Contains(got, "note: VMs of other users run: mine (user 4242); qnet --run-dir /run/user/4242/qnet") {
			t.Errorf("root's ps: %s", got)
		}
		if code, _, talk := l.called(0, "/", nil, "stop", "mine"); code != exitFailure || !strings.Contains(talk, `VM "mine" belongs to user 4242`) {
			t.Errorf("root stops a user's: %d, %s", code, talk)
		}
		sudo := []string{"SUDO_UID=4242", "SUDO_GID=4242"}
		if got := run(0, sudo, "ps"); !strings.Contains(got, "mine") || !strings.Contains(got, "roots") || strings.Contains(got, "note") {
			t.Errorf("the user's sudo ps: %s", got)
		}
		// The same user in a session without XDG_RUNTIME_DIR, as of cron(8).
		if got := run(4242, mine[:1], "ps"); !strings.Contains(got, "mine ") {
			t.Errorf("from another session: %s", got)
		}
		run(0, sudo, "stop", "--force", "mine")
		run(0, nil, "stop", "--force", "roots")
		if code, _, talk := l.called(0, "/", nil, "stop", "mine"); code != exitFailure || !strings.Contains(talk, "not running") {
			t.Errorf("stop what does not run: %d, %s", code, talk)
		}
	})
}
