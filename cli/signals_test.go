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

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
)

// unheard are the signals by which neither QEMU nor a keeper or watchdog ends, and with
// the further ones of heeded no supervisor goes on. 35 stands for the real-time signals.
var unheard = []syscall.Signal{
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE, unix.SIGALRM, unix.SIGVTALRM, unix.SIGPROF, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGIO,
	unix.SIGPWR, unix.SIGWINCH, unix.SIGCHLD, unix.SIGURG, unix.SIGTSTP, unix.SIGCONT, unix.SIGTTIN, unix.SIGCONT, unix.SIGTTOU,
	unix.SIGCONT, unix.SIGSTOP, unix.SIGCONT, 35, 64,
}

// heeded press the power button when the supervisor gets them.
var heeded = []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM}

// children returns the processes that a process has started.
func children(t *testing.T, pid int) (list []int) {
	t.Helper()
	tasks, _ := filepath.Glob("/proc/" + itoa(pid) + "/task/*/children")
	for _, path := range tasks {
		b, _ := os.ReadFile(path)
		for _, word := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, child)
		}
	}
	return list
}

// processes are the processes of the only network's first VM, by what they are.
func (l *testHost) processes(vm string) map[string][]int {
	l.Helper()
	s, keeper := l.state(vm), l.networks()[0].KeeperPID
	return map[string][]int{"supervisor": {s.PID}, "QEMU": {s.QEMU}, "keeper": {keeper}, "watchdog": children(l.T, keeper)}
}

// signalAll sends a signal to all processes at once, as a service manager does.
func (l *testHost) signalAll(vm string, signals ...syscall.Signal) {
	l.Helper()
	all := l.processes(vm)
	for _, s := range signals {
		for _, name := range []string{"QEMU", "watchdog", "keeper", "supervisor"} {
			for _, pid := range all[name] {
				if err := unix.Kill(pid, s); err != nil {
					l.Errorf("%s to the %s: %v", s, name, err)
				}
			}
		}
	}
}

// writer is a guest that writes to an ext4 file system on its disk without a pause.
func (l *testHost) writer(name string) (path, image string) {
	l.Helper()
	image = filepath.Join(l.dir, name+".img")
	lab.Sh(l.T, "truncate -s 16M "+image+" && mke2fs -q -t ext4 "+image)
	script := guest.Script("mkdir /mnt; mount -t ext4 /dev/vda /mnt && date > /mnt/first && sync && echo IT-WRITES; while :; do date; done > /mnt/log")
	disk := "[[disk]]\nfile = \"" + name + ".img\"\nformat = \"raw\"\n"
	return l.profile(name, vm(l, name, script)+"[[nic]]\nmode = \"bridge\"\nnetwork = \"dev\"\n"+disk), image
}

// What ends a service, a session or a terminal sends its signals to all processes of a VM
// at once, some of them twice. The guest shuts down by its power button, and writes its
// file system; the host is as before. After SIGKILL of QEMU, neither of the first two is so.
func TestSignalsToAll(t *testing.T) {
	lab.Require(t, lab.Program("mke2fs"), lab.Program("e2fsck"), lab.Program("dumpe2fs"))
	all := func(signals ...syscall.Signal) func(*testHost) {
		return func(l *testHost) { l.signalAll("w", signals...) }
	}
	for name, c := range map[string]struct {
		end   func(*testHost)
		code  int
		clean bool
	}{
		"a service's end":          {all(unix.SIGTERM, unix.SIGCONT), exitOK, true},
		"a session's end, by sudo": {all(unix.SIGTERM, unix.SIGHUP, unix.SIGCONT, unix.SIGTERM, unix.SIGHUP), exitOK, true},
		"a terminal's end":         {all(unix.SIGHUP, unix.SIGHUP), exitOK, true},
		"keys":                     {all(unix.SIGINT), exitOK, true},
		"quit key":                 {all(unix.SIGQUIT), exitOK, true},
		"SIGKILL of QEMU":          {func(l *testHost) { unix.Kill(l.state("w").QEMU, unix.SIGKILL) }, exitQEMU, false},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				path, image := l.writer("w")
				p := l.start("run", path, "--", "-no-reboot")
				p.says("IT-WRITES", bootTime)
				c.end(l)
				if code := p.end(20 * time.Second); code != c.code {
					t.Errorf("exit code %d, want %d\n%s", code, c.code, &p.errout)
				}
				l.before.Check(t) // at once
				if said := strings.Contains(p.out.String(), "Power down"); said != c.clean {
					t.Errorf("the guest says that it powers off: %t, want %t\n%s", said, c.clean, &p.out)
				}
				out, err := lab.Try("! dumpe2fs -h " + image + " 2>&1 | grep needs_recovery && e2fsck -fn " + image)
				if clean := err == nil; clean != c.clean {
					t.Errorf("the file system is clean: %t, want %t\n%s", clean, c.clean, out)
				}
			})
		})
	}
}

// Whichever process gets whichever other signal, or is stopped and goes on: the VM runs
// on, and its network with it. The network is one of the kind that has a watchdog.
func TestSignalsThatEndNothing(t *testing.T) {
	inLab(t, func(l *testHost) {
		p := l.start("run", l.profile("g", idle+"[[nic]]\nmode = \"bridge\"\nnetwork = \"dev\"\n"))
		p.says("SeaBIOS", 20*time.Second)
		before := l.processes("g")
		if len(before["watchdog"]) != 1 {
			t.Fatalf("got %v", before)
		}
		stop := lab.PingFrom(t, "inet", "192.0.2.10")
		for name, signals := range map[string][]syscall.Signal{
			"supervisor": unheard, "QEMU": append(heeded, unheard...), "keeper": append(heeded, unheard...), "watchdog": append(heeded, unheard...),
		} {
			for _, s := range signals {
				if err := unix.Kill(before[name][0], s); err != nil {
					t.Errorf("%s to the %s: %v", s, name, err)
				}
			}
			if s := l.state("g").State; s != control.Running {
				t.Errorf("after the signals to the %s the VM is %s", name, s)
			}
		}
		p.says("got SIGTERM and goes on", 5*time.Second)
		if now := l.processes("g"); fmt.Sprint(now) != fmt.Sprint(before) {
			t.Errorf("the processes were %v, are %v", before, now)
		}
		if pings := stop(); pings.Lost > 0 {
			t.Errorf("the host's own packets: %s", pings)
		}
		l.must("stop", "--force", "g")
		if code := p.end(10 * time.Second); code != exitOK {
			t.Errorf("exit code %d\n%s", code, &p.errout)
		}
	})
}

// Two VMs of one network are services of their own. All processes of the first one's
// service, the keeper among them, get SIGTERM, once the guest has the power button and
// again when its supervisor has ended. The service ends, and the second VM's supervisor
// has the keeper: not one packet that passes the network is lost.
func TestServiceLeavesTheKeeperToAnother(t *testing.T) {
	for mode, nic := range map[string]string{"nat": natNIC("10.57.0.10") + natDev, "bridge": "[[nic]]\nmode = \"bridge\"\nnetwork = \"dev\"\n"} {
		t.Run(mode, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				first := l.start("run", l.profile("first", vm(l, "first", "qnet.shell")+nic))
				first.says("poweroff -f ends it", bootTime)
				unit := l.processes("first")
				second := l.start("run", l.profile("second", idle+strings.ReplaceAll(nic, "57.0.10\"", "57.0.11\"")))
				second.says("SeaBIOS", 20*time.Second)
				stop := l.passing(mode)
				l.signalAll("first", unix.SIGTERM)
				if code := first.end(20 * time.Second); code != exitOK {
					t.Errorf("exit code %d\n%s", code, &first.errout)
				}
				begin := time.Now()
				unix.Kill(unit["keeper"][0], unix.SIGTERM)
				second.says("another has taken over", 5*time.Second)
				took := time.Since(begin)
				for _, name := range []string{"keeper", "watchdog"} {
					for _, pid := range unit[name] {
						lab.Eventually(t, 3*time.Second, "the end of the first service's "+name, func() bool { return unix.Kill(pid, 0) != nil })
					}
				}
				pings := stop()
				t.Logf("%s: the next keeper after %s; %s", mode, took.Truncate(time.Millisecond), pings)
				if keeper := l.networks()[0]; took > 2*time.Second || len(keeper.VMs) != 1 || keeper.VMs[0].Name != "second" ||
					keeper.KeeperPID == unit["keeper"][0] || !strings.Contains(fmt.Sprint(children(t, l.state("second").PID)), itoa(keeper.KeeperPID)) {
					t.Errorf("after %s the network is %+v, and its keeper no child of %d", took, keeper, l.state("second").PID)
				}
				if pings.Lost > 0 {
					t.Error(pings)
				}
				l.must("stop", "--force", "second")
				second.end(10 * time.Second)
			})
		})
	}
}

// passing pings through the network: from a guest through NAT, or from the LAN the host
// that is behind the bridge.
func (l *testHost) passing(mode string) (stop func() lab.Continuity) {
	l.Helper()
	if mode == "bridge" {
		return lab.PingFrom(l.T, "inet", "192.0.2.10")
	}
	lab.Guest(l.T, "vm1", "qn-dev", "10.57.0.99/24", "10.57.0.1")
	pings := lab.PingFrom(l.T, "vm1", "203.0.113.1")
	return func() lab.Continuity {
		defer lab.Sh(l.T, "ip link del vvm1; ip netns del vm1")
		return pings()
	}
}

// A keeper whose VMs all end at the same time undoes the network once, and so does the
// one that took over in between.
func TestAllServicesEndTogether(t *testing.T) {
	inLab(t, func(l *testHost) {
		var runs []*process
		for i := range 3 {
			name := fmt.Sprint("g", i)
			runs = append(runs, l.start("run", l.profile(name, vm(l, name, "qnet.shell")+"[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\n")))
		}
		for _, p := range runs {
			p.says("poweroff -f ends it", bootTime)
		}
		for i := range runs {
			l.signalAll(fmt.Sprint("g", i), unix.SIGTERM)
		}
		for _, p := range runs {
			if code := p.end(30 * time.Second); code != exitOK || !strings.Contains(p.out.String(), "Power down") {
				t.Errorf("exit code %d\n%s\n%s", code, &p.out, &p.errout)
			}
		}
		l.before.Check(t) // at once
	})
}

// A guest outlives the reader of its console and of qnet's own words.
func TestReaderGoes(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for name, c := range map[string]struct {
		attach func(l *testHost, p *process) (leave func())
		why    string
	}{
		"pipe": {func(l *testHost, p *process) func() {
			ours, theirs, err := os.Pipe()
			if err != nil {
				l.Fatal(err)
			}
			l.Cleanup(func() { theirs.Close() })
			p.Stdout, p.Stderr = theirs, theirs
			return func() { theirs.Close(); ours.Close() }
		}, "broken pipe"},
		"full disk": {func(_ *testHost, p *process) func() {
			p.Stdout, p.Stderr = full, full
			return func() {}
		}, "no space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				p := l.command("run", l.profile("g", vm(l, "g", guest.Script("while :; do echo TICK; sleep 0.1; done"))+"[[nic]]\nmode = \"private\"\n"))
				leave := c.attach(l, p)
				p.begin()
				log := func(file string) string {
					b, _ := os.ReadFile(filepath.Join(l.dir, "state/logs/g", file))
					return string(b)
				}
				lab.Eventually(t, bootTime, "the guest's words", func() bool { return strings.Contains(log("console.log"), "TICK") })
				leave()
				lab.Eventually(t, 5*time.Second, "a line in qnet.log", func() bool { return strings.Contains(log("qnet.log"), c.why) })
				before := strings.Count(log("console.log"), "TICK")
				lab.Eventually(t, 5*time.Second, "more words of the guest", func() bool { return strings.Count(log("console.log"), "TICK") > before+3 })
				l.must("stop", "g")
				if code := p.end(10 * time.Second); code != exitOK || !strings.Contains(log("console.log"), "Power down") || strings.Count(log("qnet.log"), c.why) != 1 {
					t.Errorf("exit code %d\n%s\n%s", code, log("console.log"), log("qnet.log"))
				}
			})
		})
	}
}

// A terminal's hangup shuts the VM down by SIGHUP. Under nohup(1) the VM runs on. Either way
// its end is in order.
func TestTerminalHangsUp(t *testing.T) {
	inLab(t, func(l *testHost) {
		for name, trap := range map[string]string{"plain": "", "nohup": `trap "" HUP; `} {
			p := l.script(trap + `exec "$0" run ` + l.profile(name, idle+"[[nic]]\nmode = \"private\"\n"))
			keys, screen := l.toTerminal(p)
			p.says("SeaBIOS", 20*time.Second)
			screen.Close()
			keys.Close()
			if name == "plain" {
				lab.Eventually(t, 5*time.Second, "it is stopping", func() bool { return l.state(name).State == control.Stopping })
			}
			lab.Eventually(t, 5*time.Second, "a line in qnet.log", func() bool {
				b, _ := os.ReadFile(filepath.Join(l.dir, "state/logs", name, "qnet.log"))
				return name == "plain" || strings.Contains(string(b), "the guest runs on")
			})
			l.must("stop", "--force", name)
			if code := p.end(10 * time.Second); code != exitOK {
				t.Errorf("%s: exit code %d", name, code)
			}
			l.before.Check(t)
		}
	})
}

// What follows a VM ends with its reader, also while the VM says nothing.
func TestFollowersEndWithTheirReader(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.must("run", "-d", l.profile("g", idle+"[[nic]]\nmode = \"private\"\n"))
		lab.Eventually(t, 20*time.Second, "the firmware's words", func() bool { return strings.Contains(l.must("logs", "g"), "SeaBIOS") })
		for _, command := range []string{`"$0" logs -f g | head -n 1 > /dev/null`, `"$0" console g | true`} {
			p := l.script(command)
			keys, err := p.StdinPipe() // stays open
			if err != nil {
				t.Fatal(err)
			}
			p.begin()
			p.end(5 * time.Second)
			keys.Close()
			if said := p.errout.String(); said != "" {
				t.Errorf("%s: %s", command, said)
			}
		}
		if s := l.state("g").State; s != control.Running {
			t.Errorf("the VM is %s", s)
		}
		p := l.script(`"$0" ps | true; "$0" logs g | true; "$0" plan ` + filepath.Join(l.dir, "g.toml") + ` | head -n 1`)
		p.begin()
		p.end(10 * time.Second)
		if said := p.errout.String(); said != "" {
			t.Errorf("stderr: %s", said)
		}
		l.must("stop", "--force", "g")
	})
}

// A reader that stops to read holds up neither the guest nor the VM's end.
func TestReaderDoesNotRead(t *testing.T) {
	for _, where := range []string{"pipe", "terminal"} {
		t.Run(where, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				script := guest.Script("i=0; while [ $i -lt 4000 ]; do echo a line that fills the pipe of a reader $i; i=$((i+1)); done; echo ALL-SAID; sleep 1000")
				p := l.command("run", l.profile("g", vm(l, "g", script)+"[[nic]]\nmode = \"private\"\n"))
				p.Stdin, p.Stdout = nil, stuck(l, where)
				p.begin()
				log := filepath.Join(l.dir, "state/logs/g/console.log")
				lab.Eventually(t, bootTime, "the guest's last words", func() bool {
					b, _ := os.ReadFile(log)
					return strings.Contains(string(b), "ALL-SAID")
				})
				l.must("stop", "g")
				if code := p.end(10 * time.Second); code != exitOK {
					t.Errorf("exit code %d\n%s", code, &p.errout)
				}
			})
		})
	}
}

// A reader of stderr that stops to read, or is gone, holds up neither what is done nor the
// VM's end.
func TestReaderDoesNotReadWarnings(t *testing.T) {
	for _, where := range []string{"pipe", "terminal", "closed pipe"} {
		t.Run(where, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				p := l.command("run", l.profile("g", vm(l, "g", guest.Script(crashKernel))+"[[nic]]\nmode = \"private\"\n"))
				errout := stuck(l, where)
				errout.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				if n, err := errout.Write(make([]byte, 1<<20)); err == nil { // ends when it takes no more
					t.Fatalf("it takes %d bytes", n)
				}
				p.Stdin, p.Stderr = nil, errout
				p.begin()
				lab.Eventually(t, bootTime, "a line in qnet.log", func() bool { return strings.Contains(l.logs("g"), "panicked") })
				l.must("stop", "g")
				if code := p.end(10 * time.Second); code != exitQEMU {
					t.Errorf("exit code %d", code)
				}
			})
		})
	}
}

// Ctrl-\ ends a short command as Ctrl-C does, without a stack trace.
func TestQuitKeyLeavesNoTrace(t *testing.T) {
	inLab(t, func(l *testHost) {
		l.must("run", "-d", l.profile("g", idle+"[[nic]]\nmode = \"none\"\n"))
		p := l.start("logs", "-f", "g")
		p.says("SeaBIOS", 20*time.Second)
		p.Process.Signal(syscall.SIGQUIT)
		p.end(5 * time.Second)
		if said := p.errout.String(); said != "" {
			t.Errorf("stderr: %s", said)
		}
		l.must("stop", "--force", "g")
	})
}

// stuck returns a pipe or a terminal whose other end is never read, and open unless it is
// said to be closed.
func stuck(l *testHost, where string) *os.File {
	l.Helper()
	ours, theirs, err := os.Pipe()
	if where == "terminal" {
		ours, theirs = lab.Pty(l.T)
	}
	if err != nil {
		l.Fatal(err)
	}
	if where == "closed pipe" {
		ours.Close()
	}
	l.Cleanup(func() { theirs.Close(); ours.Close() })
	return theirs
}

// A shell can stop a run and let it go on, and has its terminal as it was meanwhile. The
// VM runs on, and can be looked at when the run goes on. One in the shell's background
// does not even stop.
func TestJobControl(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("job", idle+"[[nic]]\nmode = \"private\"\n")
		p := l.script(`set -m; "$0" run ` + path + `; "$0" ps > /dev/null & stty -a; read -r go; fg %1 > /dev/null; echo OVER`)
		keys, screen := l.toTerminal(p)
		want := termios(t, screen)
		p.says("SeaBIOS", 20*time.Second)
		job := l.state("job")
		if got := termios(t, screen); got == want {
			t.Error("the terminal is not raw while the guest has it")
		}
		unix.Kill(job.PID, unix.SIGTSTP)
		p.says("isig icanon", 5*time.Second) // stty says that the terminal is as it was
		lab.Eventually(t, 5*time.Second, "the supervisor stopped", func() bool {
			return strings.Contains(lab.Sh(t, "cat /proc/"+itoa(job.PID)+"/status"), "T (stopped)")
		})
		if got := termios(t, screen); got != want {
			t.Errorf("stopped, the terminal was\n%+v, is\n%+v", want, got)
		}
		if status := lab.Sh(t, "cat /proc/"+itoa(job.QEMU)+"/status"); strings.Contains(status, "T (stopped)") {
			t.Error("QEMU is stopped")
		}
		keys.WriteString("\n")
		lab.Eventually(t, 5*time.Second, "the terminal raw again", func() bool { return termios(t, screen).Lflag&unix.ICANON == 0 })
		if s := l.state("job"); s.State != control.Running || s.PID != job.PID {
			t.Errorf("the VM was %+v, is %+v", job, s)
		}
		l.must("stop", "--force", "job")
		p.says("OVER", 10*time.Second)

		p = l.script(`set -m; "$0" run ` + path + ` & wait; jobs`)
		l.toTerminal(p)
		p.says("SeaBIOS", 20*time.Second)
		if s := l.state("job").State; s != control.Running {
			t.Errorf("in the background: the VM is %s", s)
		}
		l.must("stop", "--force", "job")
		p.end(10 * time.Second)
	})
}
