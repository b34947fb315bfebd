package cli

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// oldBinary is qnet of commit 4927c03, before the protocols had versions. `make test`
// builds it with the target old, which needs git and its history.
func oldBinary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../.cache/old/qnet")
	if err != nil {
		t.Fatal(err)
	}
	lab.Require(t, lab.Need{Name: "qnet of commit 4927c03: make old", OK: func() bool {
		_, err := os.Stat(path)
		return err == nil
	}})
	return path
}

// as returns a host on which commands are those of another qnet binary.
func (l *testHost) as(binary string) *testHost {
	other := *l
	other.binary = binary
	return &other
}

// inBothOrders runs the test in a lab for each version that may start the keeper: first
// has the commands of that version, second those of the other, and l those of this one.
func inBothOrders(t *testing.T, test func(l, first, second *testHost)) {
	t.Helper()
	binary := oldBinary(t)
	t.Run("old keeper", func(t *testing.T) {
		inLab(t, func(l *testHost) { test(l, l.as(binary), l) })
	})
	t.Run("new keeper", func(t *testing.T) {
		inLab(t, func(l *testHost) { test(l, l, l.as(binary)) })
	})
}

// The user upgrades qnet while VMs run: the keeper and the supervisors of both
// versions meet on one network, and commands of one meet VMs of the other.
func TestUpgradeWhileVMsRun(t *testing.T) {
	inBothOrders(t, func(l, first, second *testHost) {
		first.runs("a")
		second.runs("b")
		for _, by := range []*testHost{first, second} {
			if out := by.must("ps"); !strings.Contains(out, "a ") || !strings.Contains(out, "b ") {
				l.Errorf("ps shows\n%s", out)
			}
			if out := by.must("net"); !strings.Contains(out, "dev") || !strings.Contains(out, "a,b") && !strings.Contains(out, "a, b") {
				l.Errorf("net shows\n%s", out)
			}
			by.must("gc")
		}
		first.must("stop", "--force", "b")
		second.runs("c")
		second.must("stop", "--force", "a") // the keeper's own starter; the keeper stays
		first.must("stop", "--force", "c")
		for _, by := range []*testHost{first, second} {
			if out := by.must("gc"); strings.Contains(out, "network") {
				l.Errorf("gc found something left:\n%s", out)
			}
		}
	})
}

// When a keeper dies, the next one may be of the other version: it adopts what the
// first has made, and undoes it at the end.
func TestUpgradeThenTheKeeperDies(t *testing.T) {
	inBothOrders(t, func(l, first, second *testHost) {
		first.runs("a")
		second.runs("b")
		first.must("stop", "--force", "a")
		// Now b's supervisor is alone with a keeper of the other version.
		pid := l.networks()[0].KeeperPID
		syscall.Kill(pid, syscall.SIGKILL)
		lab.Eventually(l, 5*time.Second, "the next keeper", func() bool {
			list, err := keeper.List(l.Context(), l.run)
			return err == nil && len(list) == 1 && list[0].KeeperPID != pid && len(list[0].VMs) == 1
		})
		time.Sleep(time.Second) // the next keeper looks whether all is as it was
		if notes := l.networks()[0].Notes; len(notes) > 0 {
			l.Errorf("the next keeper says %q", notes)
		}
		first.must("stop", "--force", "b")
	})
}

// runs starts a VM of that name on network dev in the background.
func (l *testHost) runs(name string) {
	l.Helper()
	l.must("run", "-d", l.profile(name, idle+"[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\n"))
}
