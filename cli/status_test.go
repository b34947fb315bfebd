package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/nstest"
)

// eraseLine is what takes the status line away.
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

// What takes long says what it waits for, on a terminal, and takes that back.
func TestStatusLine(t *testing.T) {
	inLab(t, func(l *lab) {
		// A guest that hears no power button and asks for no address, behind a bridge
		// that lets it pass after twice 2 s only.
		nstest.Sh(t, "ip link add br0 type bridge stp_state 1 forward_delay 200; ip link set br0 addrgenmode none up")
		path := l.profile("late", idle+"[[nic]]\nmode = \"bridge\"\nnetwork = \"lan\"\n[network.lan]\nuplink = \"br0\"\n")
		for _, args := range [][]string{{"run", "-d", path}, {"wait", "--timeout", "1s", "late"}, {"stop", "--timeout", "1s", "late"}} {
			p, _, _ := l.onTerminal(args...)
			p.end(30 * time.Second)
			want := map[string]string{
				"run": "late: waiting for bridge br0 to let frames of the VM pass (STP)", "wait": "late: waiting for an address; QEMU running",
				"stop": "late: waiting for the guest to shut down; after 1s QEMU is told to quit",
			}[args[0]]
			if !strings.Contains(p.out.String(), want) {
				t.Errorf("%v: no %q in %q", args, want, p.out.String())
			}
			p.gone()
		}

		p, keys, _ := l.onTerminal("run", path)
		p.says("late: waiting for bridge br0", 20*time.Second)
		p.says("SeaBIOS", 20*time.Second)
		p.gone()
		keys.WriteString("\x1dq")
		p.says("waiting for the guest to shut down; after 30s QEMU is told to quit; Ctrl-] q again does it now\r\n", 5*time.Second)
		// Into a pipe, not a word of it.
		_, _, told := l.qnet("stop", "late")
		if strings.Contains(told, "waiting") || !strings.Contains(told, "late: system_powerdown") {
			t.Errorf("into a pipe: %q", told)
		}
		if code := p.end(20 * time.Second); code != 0 {
			t.Errorf("exit code %d", code)
		}
		nstest.Sh(t, "ip link del br0")
	})
}
