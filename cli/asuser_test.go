package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

// asUser runs a command as the user behind sudo, without sudo.
func (l *testHost) asUser(args ...string) (code int, stdout, stderr string) {
	l.Helper()
	p := l.command(args...)
	p.Env = append(p.Env, "SUDO_UID=", "SUDO_GID=")
	return p.as(65534)
}

// as runs the command as a user, to its end.
func (p *process) as(uid uint32) (code int, stdout, stderr string) {
	p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	p.begin()
	code = p.end(20 * time.Second)
	return code, p.out.String(), p.errout.String()
}

// Behind sudo a VM goes on from its state, which is the user's, and opened with his rights.
func TestResumeBehindSudo(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.prepared()
		lab.Sh(t, "install -d -o 65534 "+l.dir+"/home "+l.vmDir(""))
		l.env = append(l.env, "HOME="+l.dir+"/home", "SUDO_UID=65534", "SUDO_GID=65534")
		l.must("run", "-d", l.profile("web", idle+"[[nic]]\nmode = \"nat\"\n"))
		l.must("suspend", "web")
		p := l.command("resume", "web")
		p.begin()
		if code := p.end(20 * time.Second); code != exitOK {
			t.Fatalf("resume: exit code %d\n%s", code, &p.errout)
		}
		if s := l.state("web"); s.State != "running" {
			t.Errorf("got %+v", s)
		}
		l.must("stop", "--force", "web")
	})
}

// A user finds what he started with sudo, with the default directories. qnet says what
// the user may not see.
func TestWithoutSudo(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.MountEmpty(t, "/run/qnet", "/var/lib/qnet")
		l.run = "/run/qnet"
		l.prepared()
		lab.Sh(t, "install -d -o 65534 "+l.dir+"/home")
		l.env = append(l.env, "QNET_RUN_DIR=", "QNET_STATE_DIR=", "XDG_STATE_HOME=", "HOME="+l.dir+"/home", "SUDO_UID=65534", "SUDO_GID=65534")
		path := l.profile("web", idle+"[[nic]]\nmode = \"nat\"\n")
		l.must("run", "-d", path)
		mac := l.must("mac", path)
		if _, got, talk := l.asUser("mac", path); got != mac {
			t.Errorf("the user's MAC %q, root's %q\n%s", got, mac, talk)
		}
		if code, plan, talk := l.asUser("plan", path); code != 0 || !strings.Contains(plan, strings.TrimSpace(mac)) || talk != "" {
			t.Errorf("the user's plan: exit code %d\n%s\n%s", code, plan, talk)
		}
		if code, out, talk := l.asUser("net"); code != 0 || !strings.Contains(talk, "sudo qnet net") {
			t.Errorf("the user's networks: exit code %d\n%s\n%s", code, out, talk)
		}

		// Without $XDG_RUNTIME_DIR, root's directory is not the user's.
		if code, _, talk := l.asUser("run", "-d", l.profile("mine", idle+"[[nic]]\nmode = \"user\"\n")); code != 0 {
			t.Errorf("mode user: exit code %d\n%s", code, talk)
		}
		if _, out, _ := l.asUser("ps"); !strings.Contains(out, "mine") || !strings.Contains(out, "web") {
			t.Errorf("the user's VMs:\n%s", out)
		}
		for _, name := range []string{"mine", "web"} {
			if code, _, talk := l.asUser("stop", "--force", name); code != 0 {
				t.Errorf("stop %s: exit code %d\n%s", name, code, talk)
			}
		}

		secret := filepath.Join(l.dir, "secret.toml")
		if err := os.WriteFile(secret, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		l.refused(exitUsage, []string{"permission denied", "your own rights"}, "run", secret)
	})
}
