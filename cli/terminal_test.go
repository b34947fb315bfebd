package cli

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/lab"
)

// onTerminal runs a command on a terminal and returns its keyboard.
func (l *testHost) onTerminal(args ...string) (p *process, keys, screen *os.File) {
	l.Helper()
	p = l.command(args...)
	keys, screen = l.toTerminal(p)
	return p, keys, screen
}

// toTerminal starts a command on a terminal of its own.
func (l *testHost) toTerminal(p *process) (keys, screen *os.File) {
	l.Helper()
	ours, theirs := lab.Pty(l)
	p.Stdin, p.Stdout, p.Stderr = theirs, theirs, theirs
	p.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := ours.Read(b)
			p.out.Write(b[:n])
			if err != nil {
				return
			}
		}
	}()
	p.begin()
	return ours, theirs
}

func termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *state
}

// However a run on a terminal ends, it restores the terminal.
func TestTerminal(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("term", idle+"[[nic]]\nmode = \"private\"\n")
		fresh, _ := lab.Pty(t)
		want := termios(t, fresh)
		for name, end := range map[string]func(p *process, keys *os.File){
			"Ctrl-] q":  func(_ *process, keys *os.File) { keys.WriteString("\x1dq"); keys.WriteString("\x1dq") },
			"SIGINT":    func(p *process, _ *os.File) { l.signalTwice(p, unix.SIGINT) },
			"stop":      func(*process, *os.File) { l.must("stop", "--force", "term") },
			"QEMU dies": func(*process, *os.File) { unix.Kill(l.state("term").QEMU, unix.SIGKILL) },
		} {
			p, keys, screen := l.onTerminal("run", path)
			p.says("SeaBIOS", 20*time.Second)
			if got := termios(t, screen); got.Lflag&(unix.ICANON|unix.ISIG|unix.ECHO) != 0 {
				t.Errorf("%s: the terminal is not raw while the guest has it", name)
			}
			end(p, keys)
			p.end(20 * time.Second)
			if got := termios(t, screen); got != want {
				t.Errorf("%s: the terminal was\n%+v, is\n%+v", name, want, got)
			}
			l.before.Check(t)
		}
		p, _, screen := l.onTerminal("run", path, "--", "-no-such-option")
		if code := p.end(20 * time.Second); code != exitQEMU || termios(t, screen) != want {
			t.Errorf("failing start: exit code %d, terminal %+v", code, termios(t, screen))
		}
	})
}

// The keys of `qnet run` and of `qnet console` reach the guest, and Ctrl-] q
// leaves the console without ending the VM.
func TestConsoleKeys(t *testing.T) {
	inLab(t, func(l *testHost) {
		p, keys, _ := l.onTerminal("run", l.profile("k", vm(l, "k", "qnet.shell")))
		p.says("poweroff -f ends it", bootTime)
		keys.WriteString("echo QNET-\"TYPED\"\r")
		p.says("QNET-TYPED", 20*time.Second)

		c, keys2, _ := l.onTerminal("console", "k")
		c.says("Ctrl-] q leaves", 5*time.Second)
		keys2.WriteString("echo QNET-\"AGAIN\"\r")
		c.says("QNET-AGAIN", 20*time.Second)
		p.says("QNET-AGAIN", 5*time.Second) // both see the one console
		keys2.WriteString("\x1dq")
		if code := c.end(5 * time.Second); code != 0 {
			t.Errorf("leaving the console: exit code %d", code)
		}
		if s := l.state("k").State; s != control.Running {
			t.Errorf("after the console was left the VM is %s", s)
		}
		keys.WriteString("poweroff -f\r")
		if code := p.end(20 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if out := l.must("logs", "k"); !strings.Contains(out, "QNET-TYPED") {
			t.Error("the log lacks what the guest wrote")
		}
	})
}
