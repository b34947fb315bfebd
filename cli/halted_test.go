package cli

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
)

// fullDisk returns a disk on a file system that is smaller, for a profile.
func (l *testHost) fullDisk(name string) string {
	l.Helper()
	dir := filepath.Join(l.dir, "full")
	lab.Sh(l, "mkdir -m 755 "+dir)
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=2m,mode=755"); err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	disk := filepath.Join(dir, name+".raw")
	lab.Sh(l, "truncate -s 16M "+disk)
	return fmt.Sprintf("[[disk]]\nfile = %q\nformat = \"raw\"\n", disk)
}

// A guest that stands still is stopped by a service's end, by `qnet stop`, twice at once or
// behind a signal, quickly and in order. Its keeper may have been replaced meanwhile.
func TestHaltedGuestIsStopped(t *testing.T) {
	halts := map[string]struct{ script, status string }{
		"full disk": {"dd if=/dev/zero of=/dev/vda bs=1M count=8 oflag=direct", "paused (no space: g.raw)"},
		"suspended": {"sleep 1; echo mem > /sys/power/state", "suspended"},
		"panicked":  {crashKernel, "panicked"},
	}
	ends := map[string]func(l *testHost, p *process){
		"a service's end": func(l *testHost, _ *process) { l.signalAll("g", unix.SIGTERM, unix.SIGCONT) },
		"keys": func(_ *testHost, p *process) {
			for range 3 { // button, quit, SIGKILL
				p.Process.Signal(unix.SIGINT)
				time.Sleep(400 * time.Millisecond)
			}
		},
		"stop, twice": func(l *testHost, _ *process) {
			one, two := l.start("stop", "g"), l.start("stop", "g")
			for _, s := range []*process{one, two} {
				if code := s.end(20 * time.Second); code != exitOK {
					l.Errorf("stop: exit code %d, %s", code, &s.errout)
				}
			}
		},
	}
	for _, c := range [][2]string{
		{"full disk", "a service's end"}, {"full disk", "keys"}, {"full disk", "stop, twice"}, {"suspended", "stop, twice"}, {"panicked", "a service's end"},
	} {
		halt, h, end := c[0], halts[c[0]], c[1]
		t.Run(halt+", "+end, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				disk := ""
				if halt == "full disk" {
					disk = l.fullDisk("g")
				}
				p := l.start("run", l.profile("g", vm(l, "g", guest.Script(h.script))+"[[nic]]\nmode = \"private\"\n"+disk))
				p.says("warning: VM g ", bootTime)
				l.becomes("g", h.status, time.Second)
				l.keeperReplaced("g")
				l.becomes("g", h.status, time.Second)
				ends[end](l, p)
				code := p.end(10 * time.Second)
				if want := map[bool]int{true: exitQEMU}[halt == "panicked"]; code != want {
					t.Errorf("exit code %d, want %d, %s", code, want, &p.errout)
				}
			})
		})
	}
}
