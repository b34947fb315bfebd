package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/doctor"
)

// disk makes an image of 1 MiB and returns what a profile says of it.
func (l *testHost) disk(name, more string) string {
	l.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
		l.Fatal(err)
	}
	return fmt.Sprintf("[[disk]]\nfile = %q\nformat = \"raw\"\n%s\n", path, more)
}

// An image that a VM uses is refused to others before anything changes, by its name and
// that of the VM; run, plan and doctor agree.
func TestDiskInUse(t *testing.T) {
	inLab(t, func(l *testHost) {
		shared := l.disk("shared.raw", "")
		nic := "[[nic]]\nmode = \"private\"\n"
		one := l.profile("one", idle+shared+nic)
		two := l.profile("two", idle+l.disk("own.raw", "")+shared+nic)
		l.must("run", "-d", one)
		words := []string{fmt.Sprintf("open disk %q: it is in use by VM \"one\" (process %d)", filepath.Join(l.dir, "shared.raw"), l.state("one").QEMU), "hint: stop what uses it"}
		l.refused(exitFailure, words, "run", two)
		l.refused(exitFailure, words, "run", "-d", two)
		if out := l.must("plan", two); !strings.Contains(out, "# note: a run is refused: "+words[0]) {
			t.Errorf("plan: %s", out)
		}
		code, r := l.examine(two)
		if s, found := found(r, "files"); code != exitIncapable || s != doctor.Fail || !strings.Contains(found, words[0]) {
			t.Errorf("doctor: exit code %d, %s: %s", code, s, found)
		}
		if s, found := found(func() doctor.Report { _, r := l.examine(one); return r }(), "files"); s != doctor.Pass {
			t.Errorf("doctor of a VM that runs: %s: %s", s, found)
		}
		snapshot := l.profile("snapshot", idle+strings.Replace(shared, "[[disk]]", "[[disk]]\nsnapshot = true", 1)+nic)
		l.refused(exitFailure, words, "run", snapshot)
		l.must("stop", "--force", "one")

		// VMs that only read share an image.
		l.must("run", "-d", snapshot)
		l.must("run", "-d", "--name", "another", snapshot)
		l.refused(exitFailure, []string{`VM "another"`, " and ", `VM "snapshot"`}, "run", two)
		l.must("stop", "--force", "snapshot")
		l.must("stop", "--force", "another")
	})
}

// Two disks that are one file are refused by every command, with exit code 2.
func TestOneFileTwice(t *testing.T) {
	inLab(t, func(l *testHost) {
		disks := l.disk("a.raw", "")
		a, b := filepath.Join(l.dir, "a.raw"), filepath.Join(l.dir, "b.raw")
		if err := os.Link(a, b); err != nil {
			t.Fatal(err)
		}
		profile := l.profile("twice", idle+disks+fmt.Sprintf("[[disk]]\nfile = %q\nformat = \"raw\"\n", b)+"[[nic]]\nmode = \"nat\"\n")
		words := []string{fmt.Sprintf("disk %q: it is the same file as disk %q", b, a)}
		l.refused(exitUsage, words, "check", profile)
		l.refused(exitUsage, words, "run", profile)
		if out := l.must("plan", profile); !strings.Contains(out, "# note: a run is refused: "+words[0]) {
			t.Errorf("plan: %s", out)
		}
	})
}
