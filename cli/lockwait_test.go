package cli

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lockfile"
)

// SIGTERM ends a run that waits for a lock at once, whichever lock it is.
func TestSignalDuringLockWait(t *testing.T) {
	inLab(t, func(l *testHost) {
		path := l.profile("a", idle+"[[nic]]\nmode = \"private\"\nnetwork = \"dev\"\n")
		for _, name := range []string{"start-dev", "plan", "net-dev"} {
			lock, err := lockfile.Try(filepath.Join(l.run, "locks", name))
			if err != nil {
				t.Fatal(err)
			}
			p := l.start("run", path)
			lab.Eventually(t, 5*time.Second, "it starts", func() bool { return strings.Contains(l.must("ps"), "starting") })
			time.Sleep(500 * time.Millisecond) // QEMU loads meanwhile, and a keeper starts
			begin := time.Now()
			p.Process.Signal(unix.SIGTERM)
			if code := p.end(15 * time.Second); code != exitInterrupted {
				t.Errorf("%s: exit code %d\n%s", name, code, &p.errout)
			}
			if took := time.Since(begin); took > 2*time.Second { // 20 ms if the machine does nothing else
				t.Errorf("%s: SIGTERM took effect after %s", name, took.Truncate(time.Millisecond))
			}
			if err := lock.Release(); err != nil {
				t.Fatal(err)
			}
			l.before.Check(t)
		}
	})
}
