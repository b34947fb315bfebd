package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
)

// bootSystemd makes a systemd the first process of namespaces of its own. It knows the units in $1
// alone (SYSTEMD_UNIT_PATH in systemd(1)), which are targets without a service: those of the
// machine would clean its /tmp and set its sysctls. $2 is where its control groups are.
const bootSystemd = `set -e
mkdir -p $1 $2
for target in sysinit basic shutdown network-online multi-user umount local-fs; do
	printf "[Unit]\nDescription=empty\nDefaultDependencies=no\n" > $1/$target.target
done
mountpoint -q $2 || mount -t cgroup2 cgroup $2
echo $$ > $(mktemp -d $2/qnet-test-XXXXXX | tee $1/cgroup)/cgroup.procs
exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup sh -ec '
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mount --bind $1 /etc/systemd/system
mount -t tmpfs between /sys/fs/cgroup # the kernel mounts nothing twice on itself
mount -t cgroup2 cgroup /sys/fs/cgroup
exec env -i container=tests LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/etc/systemd/system \
	/lib/systemd/systemd --unit=basic.target --show-status=no' sh $1 $2
`

// manager is a systemd that runs.
type manager struct {
	*testHost
	pid string // outside
}

// systemd starts one on the test's host, and ends it at the test's end.
func (l *testHost) systemd() manager {
	l.Helper()
	lab.Require(l.T, lab.Program("/lib/systemd/systemd"), lab.Program("unshare"), lab.Program("nsenter"))
	out, err := os.CreateTemp(l.dir, "systemd")
	if err != nil {
		l.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", bootSystemd, "sh", filepath.Join(l.dir, "units"), filepath.Join(l.dir, "cgroup"))
	cmd.Stdout, cmd.Stderr = out, out
	wait, err := lab.Start(cmd)
	if err != nil {
		l.Fatal(err)
	}
	m := manager{testHost: l}
	l.Cleanup(func() {
		cmd.Process.Kill()
		wait()
		lab.Eventually(l.T, 10*time.Second, "its control groups go", func() bool {
			_, err := lab.Try("find $(cat " + l.dir + "/units/cgroup) -depth -type d -exec rmdir {} +")
			return err == nil
		})
	})
	lab.Eventually(l.T, 20*time.Second, "systemd runs", func() bool {
		children, _ := os.ReadFile("/proc/" + itoa(cmd.Process.Pid) + "/task/" + itoa(cmd.Process.Pid) + "/children")
		m.pid = strings.TrimSpace(string(children))
		said, err := m.try("systemctl", "is-system-running")
		return err == nil && strings.TrimSpace(said) == "running"
	})
	return m
}

// try runs a program beside the systemd.
func (m manager) try(argv ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"-t", m.pid, "-m", "-p", "-u", "-i", "-C", "--"}, argv...)...)
	cmd.Env = slices.Concat(m.env, []string{"QNET_RUN_DIR=", "QNET_STATE_DIR="})
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// qnet runs qnet beside the systemd.
func (m manager) qnet(args ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		m.Fatal(err)
	}
	return m.try(append([]string{self, "--run-dir", m.run, "--state-dir", filepath.Join(m.dir, "state")}, args...)...)
}

// kill sends a signal to a process beside the systemd, by its PID there.
func (m manager) kill(signal string, pid int) {
	m.Helper()
	if out, err := m.try("kill", signal, itoa(pid)); err != nil {
		m.Fatalf("%v: %s", err, out)
	}
}

// shows waits until qnet service status shows the words.
func (m manager) shows(words ...string) {
	m.Helper()
	last := ""
	lab.Eventually(m.T, 60*time.Second, "status shows "+strings.Join(words, ", "), func() bool {
		last, _ = m.qnet("service", "status")
		for _, w := range words {
			if !strings.Contains(last, w) {
				return false
			}
		}
		return true
	})
}

// A VM is a service of a real systemd: it starts, starts again when QEMU crashes or hangs, shuts
// its guest down when it is stopped, and leaves nothing when it is removed.
func TestServices(t *testing.T) {
	inLab(t, func(l *testHost) {
		m := l.systemd()
		path := l.profile("web", vm(l, "web", guest.Script("echo UP; while :; do sleep 1; done"))+"[[nic]]\nmode = \"private\"\n")
		if out, err := m.qnet("service", "install", "--now", path); err != nil || !strings.Contains(out, "qnet-web.service starts VM web when the host boots") {
			t.Fatalf("%v\n%s", err, out)
		}
		if _, err := os.Lstat(filepath.Join(l.dir, "units/multi-user.target.wants/qnet-web.service")); err != nil {
			t.Errorf("it does not start at boot: %v", err)
		}
		m.shows("web  active", "yes", "running")

		crashed, _ := m.try("systemctl", "show", "--property=MainPID", "--value", "qnet-web")
		m.kill("-KILL", l.state("web").QEMU)
		lab.Eventually(t, 20*time.Second, "another process", func() bool {
			now, _ := m.try("systemctl", "show", "--property=MainPID", "--value", "qnet-web")
			return now != crashed && strings.TrimSpace(now) != "0"
		})
		m.shows("web  active", "running")
		l.consoleHas("web", "UP")

		if out, err := m.qnet("service", "remove", "web"); err == nil || !strings.Contains(out, "give --now to stop it as well") {
			t.Errorf("%v\n%s", err, out)
		}
		begin := time.Now()
		if out, err := m.qnet("service", "remove", "--now", "web"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("the guest was not asked to shut down: it took %s", took)
		}
		if out, _ := m.qnet("service", "status"); strings.Contains(out, "web") {
			t.Errorf("status shows it still:\n%s", out)
		}
		if left, _ := filepath.Glob(filepath.Join(l.dir, "units/*/*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// systemd starts a service again whose QEMU hangs.
func TestServiceThatHangs(t *testing.T) {
	inLab(t, func(l *testHost) {
		m := l.systemd()
		path := l.profile("web", idle+"[[nic]]\nmode = \"private\"\n")
		lab.Sh(t, "mkdir -p "+l.dir+"/units/qnet-web.service.d; printf '[Service]\\nWatchdogSec=4\\n' > "+l.dir+"/units/qnet-web.service.d/test.conf")
		if out, err := m.qnet("service", "install", "--now", path); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		time.Sleep(5 * time.Second) // longer than the manager waits
		if out, _ := m.try("systemctl", "show", "--property=NRestarts", "--value", "qnet-web"); strings.TrimSpace(out) != "0" {
			t.Errorf("%s restarts of one that works", out)
		}
		m.kill("-STOP", l.state("web").QEMU)
		lab.Eventually(t, 30*time.Second, "a restart", func() bool {
			out, _ := m.try("systemctl", "show", "--property=NRestarts", "--value", "qnet-web")
			return strings.TrimSpace(out) == "1"
		})
		m.shows("web  active", "running")
		if _, err := m.try("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=all", "qnet-web"); err != nil {
			t.Error(err)
		}
		if out, err := m.qnet("service", "remove", "--now", "web"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		m.qnet("gc")
	})
}

// A unit runs what was asked for, from any directory, and nothing is installed that cannot run.
func TestServiceUnits(t *testing.T) {
	u := newCaller(t)
	path := u.write("my vm.toml", "name = \"web\"\n[[nic]]\nmode = \"user\"\n")
	for want, args := range map[string][]string{
		"run --service --name web \"" + path + "\"":                                     {path},
		"run --service --name db --sandbox required --allow-path /srv \"" + path + "\"": {"--name", "db", "--sandbox", "required", "--allow-path", "/srv", path},
		"--run-dir /elsewhere run --service --name web \"" + path + "\"":                {path},
		"run --service --name debian-12 debian-12":                                      {"debian-12"},
	} {
		global := []string{}
		if strings.Contains(want, "elsewhere") {
			global = []string{"--run-dir", "/elsewhere"}
		}
		if got := u.must(append(append(global, "service", "install", "--print"), args...)...); !strings.Contains(got, " "+want+"\n") {
			t.Errorf("%v: got\n%s\nwant %s", args, got, want)
		}
	}
	u.fails(exitUsage, []string{"service", "install", "--print", u.write("bad.toml", "memory = 3\n")}, "bad.toml:1")
	u.fails(exitUsage, []string{"service"}, "got nothing, allowed: install, remove, status")
	u.fails(exitUsage, []string{"service", "install"}, "service install needs PROFILE")
	u.fails(exitUsage, []string{"service", "remove", "a", "b"}, `takes no argument "b"`)
	u.fails(exitIncapable, []string{"service", "install", "--user", "--print", u.write("nat.toml", "[[nic]]\nmode = \"nat\"\n")}, "whose network is root's to make")
	u.fails(exitFailure, []string{"service", "status", "none"}, `VM "none" has no service`, "qnet service status lists")
}
