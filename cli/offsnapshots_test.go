package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/internal/snapshots"
)

// counting makes a guest print how often it has booted by its disk.
const counting = `n=$(dd if=/dev/vda bs=1M skip=8 count=1 2>/dev/null | head -c 1 | tr -d '\0'); n=$((n + 1)); echo "boot $n of this disk"; echo $n | dd of=/dev/vda bs=1M seek=8 conv=fsync 2>/dev/null`

// bootsAs runs a VM once, and checks how often its disk says that it has booted.
func (l *testHost) bootsAs(name, path string, n int) {
	l.Helper()
	if got := l.once(name, path); !strings.Contains(got, fmt.Sprintf("boot %d of this disk", n)) {
		l.Errorf("%s: want boot %d:\n%s", name, n, got)
	}
}

// tags are the snapshots of a VM, with those of a guest's memory marked.
func (l *testHost) tags(name string) string {
	l.Helper()
	var list []snapshots.Snapshot
	if err := json.Unmarshal([]byte(l.must("snapshot", "ls", "--json", name)), &list); err != nil {
		l.Fatal(err)
	}
	var tags []string
	for _, s := range list {
		if s.Memory > 0 {
			s.Tag += "+memory"
		}
		tags = append(tags, s.Tag)
	}
	return strings.Join(tags, " ")
}

// The disk of a VM that is off goes back to a snapshot, which is made while the VM is off, or
// while it runs. A running guest is not put on disks of another time, nor a suspended one.
func TestSnapshotsOfAVMThatIsOff(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		text := vm(l, "g", guest.Script(counting))
		path := l.profile("g", strings.Replace(text, "\n[boot]", fmt.Sprintf("image = %q\n[boot]", l.base("base.qcow2")), 1)+"[[nic]]\nmode = \"private\"\n")
		l.refused(exitFailure, []string{"not running", "its profile is not known", "./g.toml"}, "snapshot", "ls", "g")
		l.refused(exitUsage, []string{"disk.qcow2", "never ran"}, "snapshot", "save", path, "early")
		if _, err := os.Stat(l.vmDir("g")); err == nil {
			t.Error("a refused snapshot made the VM's directory")
		}
		l.bootsAs("g", path, 1)
		if got := l.must("snapshot", "save", "g", "one"); got != "one\n" {
			t.Errorf("it prints %q", got)
		}
		l.bootsAs("g", path, 2)
		l.must("snapshot", "restore", "g", "one")
		l.bootsAs("g", path, 2)
		l.refused(exitFailure, []string{"one", "has a snapshot of that name"}, "snapshot", "save", "g", "one")

		l.must("run", "-d", path) // boot 3
		l.consoleHas("g", "QNET-END rc=0")
		l.must("snapshot", "save", "g", "live")
		l.refused(exitFailure, []string{"one", "while it was off", "stop the VM"}, "snapshot", "restore", "g", "one")
		l.becomes("g", "running", 0)
		if got := l.tags("g"); got != "one live+memory" {
			t.Errorf("running, it has %q", got)
		}
		l.isNotPutBackSuspended()
		l.must("stop", "--force", "g")
		if got := l.tags("g"); got != "one live+memory" {
			t.Errorf("off, it has %q", got)
		}
		code, _, said := l.qnet("snapshot", "restore", "g", "live")
		if code != exitOK || !strings.Contains(said, "boots as after a power cut") {
			t.Errorf("exit code %d, %s", code, said)
		}
		l.bootsAs("g", path, 4)
		l.must("snapshot", "rm", "g", "live")
		l.must("snapshot", "rm", path, "one")
		if got := l.tags("g"); got != "" {
			t.Errorf("left: %q", got)
		}
		l.checked(l.vmDir("g") + "/disk.qcow2")
	})
}

// isNotPutBackSuspended suspends the guest, whose snapshots nothing changes then, and resumes it.
func (l *testHost) isNotPutBackSuspended() {
	l.Helper()
	l.must("suspend", "g")
	for _, verb := range []string{"save", "restore", "rm"} {
		l.refused(exitFailure, []string{"it is suspended", "qnet resume g", "--discard"}, "snapshot", verb, "g", "one")
	}
	if got := l.tags("g"); got != "one live+memory" {
		l.Errorf("suspended, it has %q", got)
	}
	l.must("resume", "g")
}

// A VM that keeps no directory of its own is known by its profile's path, and gets none.
func TestSnapshotsByAPath(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"))
	inLab(t, func(l *testHost) {
		_, disks := l.qcow2("g")
		path := l.profile("g", vm(l, "g", guest.Script(counting))+disks)
		l.bootsAs("g", path, 1)
		l.must("snapshot", "save", path, "one")
		l.bootsAs("g", path, 2)
		l.must("snapshot", "restore", path, "one")
		l.bootsAs("g", path, 2)
		if _, err := os.Stat(l.vmDir("g")); err == nil {
			t.Error("it has a directory")
		}
		raw := l.profile("raw", strings.NewReplacer(`"g"`, `"raw"`, `format = "qcow2"`, `format = "raw"`).Replace(read(t, path)))
		l.refused(exitFailure, []string{"format raw", "qemu-img convert"}, "snapshot", "save", raw, "one")
	})
}
