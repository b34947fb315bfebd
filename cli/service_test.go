package cli

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
)

const exampleUnit = "../examples/qnet@.service"

// systemd accepts the example of a unit, and qnet the unit's command lines.
func TestExampleUnit(t *testing.T) {
	lab.Require(t, lab.Program("systemd-analyze"))
	b, err := os.ReadFile(exampleUnit)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), filepath.Base(exampleUnit))
	text := strings.ReplaceAll(string(b), "/usr/local/bin/qnet", self) // that there is a program is part of the check
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := lab.Try("systemd-analyze --man=no verify " + unit); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("%v\n%s", err, out)
	}
	u := newCaller(t)
	lines := regexp.MustCompile(`(?m)^Exec\w+=-?/usr/local/bin/qnet (.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(lines) != 2 {
		t.Fatalf("got %q", lines)
	}
	for _, line := range lines {
		args := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(line[1], "%i", "web"), "/etc/qnet", u.dir))
		_, out, errout := u.qnet(args...)
		if !strings.Contains(errout, "no such file") && !strings.Contains(errout, "not running") {
			t.Errorf("%v: %q, %q", args, out, errout)
		}
	}
}

// A service manager that waits for the start gets READY=1 when the guest runs.
func TestNotifyReady(t *testing.T) {
	inLab(t, func(l *testHost) {
		socket := filepath.Join(l.dir, "notify")
		manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer manager.Close()
		path := l.profile("web", idle+"[[nic]]\nmode = \"private\"\n")
		l.env = append(l.env, "NOTIFY_SOCKET="+socket)
		p := l.start("run", path)
		manager.SetReadDeadline(time.Now().Add(20 * time.Second))
		word, heard := make([]byte, 100), ""
		for !strings.HasPrefix(heard, "READY=1\n") {
			n, err := manager.Read(word)
			if err != nil {
				t.Fatalf("heard %q last, %v", heard, err)
			}
			heard = string(word[:n])
		}
		if got := l.must("ps"); !strings.Contains(got, "running") {
			t.Errorf("it does not run:\n%s", got)
		}
		l.must("stop", "--force", "web")
		p.end(10 * time.Second)

		manager.Close()
		p = l.start("run", path) // of a manager that is gone
		p.says("warning: tell the service manager that the VM runs", 20*time.Second)
		l.must("stop", "--force", "web")
		if code := p.end(10 * time.Second); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	})
}
