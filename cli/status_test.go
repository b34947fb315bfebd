package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
)

// eraseLine erases the status line.
const eraseLine = "\r\x1b[K"

// gone checks that nothing of the status line is left on the process's terminal.
func (p *process) gone() {
	p.l.Helper()
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text := p.out.String() // of what the terminal still delivers, too
		if i := strings.LastIndex(text, "waiting for"); i >= 0 && strings.Contains(text[i:], eraseLine) {
			return
		}
		if time.Now().After(end) {
			p.l.Errorf("%v: the status line stays: %q", p.Args[1:], text)
			return
		}
	}
}

// script is a command of sh's, to which qnet is "$0".
func (l *testHost) script(text string) *process {
	// In a chroot, os.Executable is a path from outside.
	self := fmt.Sprintf("/proc/%d/exe", os.Getpid())
	p := l.command()
	p.Path, p.Args = "/bin/sh", []string{"sh", "-c", text, self}
	return p
}

// heard checks what a process that has ended said on its terminal, which delivers it
// in its own time.
func (p *process) heard(words string) {
	p.l.Helper()
	lab.Eventually(p.l, 2*time.Second, "the words "+words, func() bool { return strings.Contains(p.out.String(), words) })
}

// A command that takes long shows on a terminal what it waits for, and erases that.
func TestStatusLine(t *testing.T) {
	inLab(t, func(l *testHost) {
		// A guest that ignores the power button and asks for no address, behind a bridge
		// that lets it pass after twice 2 s only.
		lab.Sh(t, "ip link add br0 type bridge stp_state 1 forward_delay 200; ip link set br0 addrgenmode none up")
		path := l.profile("late", idle+"[[nic]]\nmode = \"bridge\"\nnetwork = \"lan\"\n[network.lan]\nuplink = \"br0\"\n")
		for _, args := range [][]string{{"run", "-d", path}, {"wait", "--timeout", "1s", "late"}, {"stop", "--timeout", "1s", "late"}} {
			p, _, _ := l.onTerminal(args...)
			p.end(30 * time.Second)
			want := map[string]string{
				"run": "late: waiting for bridge br0 to let frames of the VM pass (STP)", "wait": "late: waiting for an address; QEMU running",
				"stop": "late: waiting for the guest to shut down; after 1s QEMU is told to quit",
			}[args[0]]
			p.heard(want)
			p.gone()
		}

		p, keys, _ := l.onTerminal("run", path)
		p.says("late: waiting for bridge br0", 20*time.Second)
		p.says("SeaBIOS", 20*time.Second)
		p.gone()
		keys.WriteString("\x1dq")
		p.says("again does it now\r\n", 5*time.Second)
		if said := strings.ReplaceAll(p.out.String(), "\r\n", " "); !strings.Contains(said, "waiting for the guest to shut down; after 30s QEMU is told to quit; Ctrl-] q again") {
			t.Errorf("the ladder: %q", said)
		}
		// Into a pipe, qnet does not write the status line.
		_, _, told := l.qnet("stop", "late")
		if strings.Contains(told, "waiting") || !strings.Contains(told, "late: power button") {
			t.Errorf("into a pipe: %q", told)
		}
		if code := p.end(20 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}

		// Ctrl-C erases the line, and ends the start of a VM in the background, too.
		p, keys, _ = l.onTerminal("run", "-d", path)
		p.says("late: waiting for bridge br0", 20*time.Second)
		keys.WriteString("\x03")
		if code := p.end(20 * time.Second); code != exitInterrupted {
			t.Errorf("interrupted start: exit code %d", code)
		}
		p.heard(`start VM "late": interrupted`)
		p.gone()
		lab.Sh(t, "ip link del br0")
	})
}

// Ctrl-C erases the line, and ends the command by its signal. A command in the background
// writes no line: another program has the terminal.
func TestInterruptedWait(t *testing.T) {
	lab.Require(t, lab.Program("ssh"))
	inLab(t, func(l *testHost) {
		l.must("run", "-d", l.profile("deaf", idle+"[[nic]]\nmode = \"nat\"\n"))
		for _, args := range [][]string{{"wait", "deaf"}, {"ssh", "deaf"}, {"stop", "deaf"}} {
			p, keys, _ := l.onTerminal(args...)
			p.says("deaf: waiting for", 20*time.Second)
			keys.WriteString("\x03")
			p.end(5 * time.Second)
			if status := p.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGINT {
				t.Errorf("%v: %s", args, p.ProcessState)
			}
			p.gone()
		}
		l.must("stop", "--force", "deaf")

		l.must("run", "-d", filepath.Join(l.dir, "deaf.toml"))
		p := l.script(`set -m; "$0" wait --timeout 1s deaf & wait`)
		l.toTerminal(p)
		p.end(20 * time.Second)
		p.heard("not within 1s")
		if said := p.out.String(); strings.Contains(said, "deaf: waiting") {
			t.Errorf("in the background: %q", said)
		}
		l.must("stop", "--force", "deaf")
	})
}

// A probe whose packets vanish shows what it waits for.
func TestProbeOnTerminal(t *testing.T) {
	inLab(t, func(l *testHost) {
		lab.Sh(t, "nft 'add table inet other; add chain inet other in { type filter hook input priority 0; policy drop; }'")
		l.prepared()
		p, _, _ := l.onTerminal("doctor", "--probe")
		p.end(30 * time.Second)
		p.heard(`waiting for a synthetic guest on network "nat"`)
		p.gone()
	})
}

// qnet leaves a SIGHUP ignored that nohup(1) ignores.
func TestNohup(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("long", idle+"[[nic]]\nmode = \"private\"\n")
		p := l.script(`trap "" HUP; exec "$0" run ` + path)
		p.begin()
		lab.Eventually(t, 10*time.Second, "it runs", func() bool { return strings.Contains(l.must("ps"), "running") })
		p.Process.Signal(unix.SIGHUP)
		time.Sleep(300 * time.Millisecond)
		if s := l.state("long").State; s != control.Running {
			t.Errorf("after SIGHUP the VM is %s", s)
		}
		l.must("stop", "--force", "long")
		p.end(10 * time.Second)
	})
}
