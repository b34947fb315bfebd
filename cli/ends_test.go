package cli

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
)

// idle is a VM that starts at once: firmware, and nothing to boot.
const idle = "memory = \"64MiB\"\naccel = \"tcg\"\n"

// state returns the VM as `qnet ps --json` shows it.
func (l *testHost) state(name string) control.State {
	l.Helper()
	var all []control.State
	if err := json.Unmarshal([]byte(l.must("ps", "--json")), &all); err != nil {
		l.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	l.Fatalf("VM %q is not in qnet ps", name)
	return control.State{}
}

// Whatever ends a VM, everything that the run made is gone when the command returns. The
// exit code tells an end by the guest or the user from a crash.
func TestEndsOfAGuest(t *testing.T) {
	typed := func(command string) func(*testHost, *process) {
		return func(l *testHost, _ *process) { l.command("console", "g").feed(command + "\n") }
	}
	for name, c := range map[string]struct {
		end  func(*testHost, *process)
		code int
	}{
		"poweroff": {typed("poweroff -f"), exitOK},
		"reboot":   {typed("reboot -f"), exitOK},
		"stop":     {func(l *testHost, _ *process) { l.must("stop", "g") }, exitOK},
		"killed":   {func(l *testHost, _ *process) { syscall.Kill(l.state("g").QEMU, syscall.SIGKILL) }, exitQEMU},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				path := l.profile("g", vm(l, "g", "qnet.net0=10.57.0.10/24,10.57.0.1 qnet.shell")+natNIC("10.57.0.10")+natDev)
				p := l.start("run", path, "--", "-no-reboot")
				p.says("poweroff -f ends it", bootTime)
				c.end(l, p)
				if code := p.end(20 * time.Second); code != c.code {
					t.Errorf("exit code %d, want %d\n%s", code, c.code, &p.errout)
				}
				l.before.Check(t) // at once
			})
		})
	}
}

// feed runs a command with this input.
func (p *process) feed(input string) {
	p.Stdin = strings.NewReader(input)
	p.begin()
	p.end(20 * time.Second)
}

// signalTwice climbs the shutdown ladder from the power button, which firmware ignores.
func (l *testHost) signalTwice(p *process, sig syscall.Signal) {
	l.Helper()
	p.Process.Signal(sig)
	lab.Eventually(l, 5*time.Second, "it is stopping", func() bool { return strings.Contains(l.must("ps"), "stopping") })
	time.Sleep(500 * time.Millisecond) // one that comes earlier is a copy of the first
	p.Process.Signal(sig)
}

// The later rungs stop a guest that ignores its power button.
func TestStopClimbs(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("deaf", idle+"[[nic]]\nmode = \"private\"\n")
		l.must("run", "-d", path)
		if code, _, talk := l.qnet("stop", "--timeout", "300ms", "deaf"); code != 0 || !strings.Contains(talk, "quit") {
			t.Errorf("stop: exit code %d, %q", code, talk)
		}
		l.before.Check(t)

		l.must("run", "-d", path)
		begin := time.Now()
		l.must("stop", "--force", "deaf")
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("stop --force took %s", took)
		}
		l.before.Check(t)

		p := l.start("run", path)
		lab.Eventually(t, 10*time.Second, "it runs", func() bool { return strings.Contains(l.must("ps"), "running") })
		l.signalTwice(p, syscall.SIGINT)
		if code := p.end(10 * time.Second); code != exitOK {
			t.Errorf("two SIGINTs: exit code %d\n%s", code, &p.errout)
		}
	})
}

// A guest that was still booting when its power button was pressed shuts down, too.
func TestStopWhileBooting(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.must("run", "-d", l.profile("early", vm(l, "early", "")+"[[nic]]\nmode = \"private\"\n"))
		code, _, talk := l.qnet("stop", "--timeout", "50s", "early")
		if code != 0 || talk != "early: power button\n" {
			t.Errorf("exit code %d, %q", code, talk)
		}
	})
}

// A step that fails undoes all steps before it.
func TestFailingStarts(t *testing.T) {
	inLab(t, func(l *testHost) {
		both := "[[nic]]\nmode = \"nat\"\n[[nic]]\nmode = \"bridge\"\n[network.bridge]\nuplink = \"nowhere0\"\n"
		l.refused(exitIncapable, []string{"nowhere0"}, "run", l.profile("second-network", idle+both))

		// QEMU itself refuses: after the network is there, its own words are shown.
		l.refused(exitQEMU, []string{"qemu", "no-such-option"}, "run", l.profile("q", idle+"[[nic]]\nmode = \"nat\"\n"), "--", "-no-such-option")
		l.refused(exitQEMU, []string{"no-such-option"}, "run", "-d", l.profile("q", idle+"[[nic]]\nmode = \"nat\"\n"), "--", "-no-such-option")

		// Stopped while it starts.
		p := l.start("run", l.profile("early", idle+"[[nic]]\nmode = \"nat\"\n"))
		lab.Eventually(t, 10*time.Second, "its lock", func() bool {
			_, err := os.Stat(l.run)
			return err == nil
		})
		p.Process.Signal(syscall.SIGINT)
		p.Process.Signal(syscall.SIGINT)
		if code := p.end(20 * time.Second); code != exitOK && code != exitInterrupted {
			t.Errorf("exit code %d\n%s", code, &p.errout)
		}
		l.before.Check(t)
	})
}

// The commands around a VM that runs in the background.
func TestBackground(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("web", idle+"[[nic]]\nmode = \"nat\"\naddress = \"10.57.0.10\"\n[network.nat]\nsubnet = \"10.57.0.0/24\"\n")
		if out := l.must("run", "-d", path); out != "web\n" {
			t.Errorf("run -d says %q", out)
		}
		s := l.state("web")
		if len(s.NICs) != 1 || s.NICs[0].Address.String() != "10.57.0.10" || s.NICs[0].Tap != "qnweb0" || s.NICs[0].Bridge != "qn-nat" || s.Accel != "tcg" {
			t.Errorf("state: %+v", s)
		}
		if mac := l.must("mac", path); strings.TrimSpace(mac) != s.NICs[0].MAC.String() {
			t.Errorf("qnet mac says %s, the VM has %s", mac, s.NICs[0].MAC)
		}
		l.refused(exitFailure, []string{"running already", "web.toml", "--name"}, "run", path)
		l.refused(exitFailure, []string{"running already"}, "run", "-d", path)
		l.refused(exitIncapable, []string{"10.57.0.10", `"web"`}, "run", "--name", "web2", path)
		l.refused(exitIncapable, []string{"in mode private", "mode nat"}, "run",
			l.profile("other", idle+"[[nic]]\nmode = \"private\"\nnetwork = \"nat\"\n"))
		if out := l.must("gc"); out != "" {
			t.Errorf("gc removes what runs: %s", out)
		}
		if out := l.must("net"); !strings.Contains(out, "10.57.0.0/24") || !strings.Contains(out, "eth0") {
			t.Errorf("qnet net:\n%s", out)
		}
		l.must("stop", "--force", "web")
		l.refused(exitFailure, []string{"not running", "qnet ps"}, "stop", "web")
		l.refused(exitFailure, []string{"not running"}, "console", "web")
		l.must("logs", "web") // stays
		l.refused(exitFailure, []string{"never ran"}, "logs", "nobody")

		// Flags behind the profile count as well.
		l.must("run", path, "-d", "--name=again")
		l.must("stop", "again", "--force")
	})
}

// `qnet run -v` shows each change to the host, and the plan shows the same.
func TestVerboseIsThePlan(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("v", idle+"[[nic]]\nmode = \"nat\"\n")
		l.must("mac", path) // makes the salt, so that plan and run choose the same
		plan := l.must("plan", path)
		_, _, talk := l.qnet("run", "-d", "-v", path)
		l.must("stop", "--force", "v")
		for line := range strings.Lines(talk) {
			if !strings.Contains(plan, line) {
				t.Errorf("not in the plan: %s", line)
			}
		}
		if n := strings.Count(talk, "\n"); n < 20 {
			t.Errorf("%d lines of talk", n)
		}
	})
}

// keeperReplaced kills the keeper of the only network and waits for the next.
func (l *testHost) keeperReplaced(vms string) {
	l.Helper()
	pid := l.networks()[0].KeeperPID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		l.Fatalf("kill the keeper: %v", err)
	}
	lab.Eventually(l, 5*time.Second, "the next keeper", func() bool {
		out := l.must("net")
		return strings.Contains(out, vms) && !strings.Contains(out, " "+itoa(pid)+" ")
	})
}

// Under sudo, QEMU and the logs are the user's, and a profile opens only what
// the user could.
func TestSudo(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.env = append(l.env, "SUDO_UID=54321", "SUDO_GID=54321")
		path := l.profile("s", idle+"[[nic]]\nmode = \"nat\"\n")
		l.must("run", "-d", path)
		status := lab.Sh(t, "cat /proc/"+itoa(l.state("s").QEMU)+"/status")
		for _, want := range []string{"Uid:\t54321\t54321\t54321\t54321", "Gid:\t54321", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !strings.Contains(status, want) {
				t.Errorf("QEMU's status lacks %q:\n%s", want, status)
			}
		}
		// The supervisor can become root again, for the keeper and its own files.
		supervisor := lab.Sh(t, "cat /proc/"+itoa(l.state("s").PID)+"/status")
		for _, want := range []string{"Uid:\t54321\t54321\t0\t54321", "Gid:\t54321\t54321\t54321\t54321", "CapEff:\t0000000000000000"} {
			if !strings.Contains(supervisor, want) {
				t.Errorf("the supervisor's status lacks %q:\n%s", want, supervisor)
			}
		}
		l.keeperReplaced("s")
		lab.Eventually(t, 5*time.Second, "a line in the log", func() bool {
			b, _ := os.ReadFile(l.dir + "/state/logs/s/qnet.log")
			return strings.Contains(string(b), "another has taken over")
		})
		if out := lab.Sh(t, "find "+l.dir+"/state/logs/s -not -uid 54321"); out != "" {
			t.Errorf("not the user's: %s", out)
		}
		l.must("stop", "--force", "s")

		// The keeper removes what a killed supervisor cannot.
		l.must("run", "-d", path)
		lab.Sh(t, "kill -9 "+itoa(l.state("s").PID))
		lab.Eventually(t, 3*time.Second, "nothing left", func() bool {
			_, err := os.Stat(l.run)
			return os.IsNotExist(err)
		})

		secret := l.dir + "/secret"
		if err := os.WriteFile(secret, make([]byte, 512), 0o600); err != nil {
			t.Fatal(err)
		}
		l.refused(exitUsage, []string{secret, "permission denied", "your own rights"}, "run",
			l.profile("thief", idle+"[[disk]]\nfile = \"secret\"\nformat = \"raw\"\nreadonly = true\n"))
	})
}
