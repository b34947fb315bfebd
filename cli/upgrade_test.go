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

// The user upgrades qnet while VMs run: the keeper and the supervisors of both
// versions meet on one network, and commands of one meet VMs of the other.
func TestUpgradeWhileVMsRun(t *testing.T) {
	binary := oldBinary(t)
	for name, order := range map[string]func(l *testHost) (first, second *testHost){
		"old keeper": func(l *testHost) (first, second *testHost) { return l.as(binary), l },
		"new keeper": func(l *testHost) (first, second *testHost) { return l, l.as(binary) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				first, second := order(l)
				first.runs("a")
				second.runs("b")
				for _, by := range []*testHost{first, second} {
					if out := by.must("ps"); !strings.Contains(out, "a ") || !strings.Contains(out, "b ") {
						t.Errorf("ps shows\n%s", out)
					}
					if out := by.must("net"); !strings.Contains(out, "dev") || !strings.Contains(out, "a,b") && !strings.Contains(out, "a, b") {
						t.Errorf("net shows\n%s", out)
					}
					by.must("gc")
				}
				first.must("stop", "--force", "b")
				second.runs("c")
				second.must("stop", "--force", "a") // the keeper's own starter; the keeper stays
				first.must("stop", "--force", "c")
				for _, by := range []*testHost{first, second} {
					if out := by.must("gc"); strings.Contains(out, "network") {
						t.Errorf("gc found something left:\n%s", out)
					}
				}
			})
		})
	}
}

// When a keeper dies, the next one may be of the other version: it adopts what the
// first has made, and undoes it at the end.
func TestUpgradeThenTheKeeperDies(t *testing.T) {
	binary := oldBinary(t)
	for name, order := range map[string]func(l *testHost) (first, second *testHost){
		"old keeper": func(l *testHost) (first, second *testHost) { return l.as(binary), l },
		"new keeper": func(l *testHost) (first, second *testHost) { return l, l.as(binary) },
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *testHost) {
				first, second := order(l)
				first.runs("a")
				second.runs("b")
				first.must("stop", "--force", "a")
				// Now b's supervisor is alone with a keeper of the other version.
				pid := l.networks()[0].KeeperPID
				syscall.Kill(pid, syscall.SIGKILL)
				lab.Eventually(t, 5*time.Second, "the next keeper", func() bool {
					list, err := keeper.List(t.Context(), l.run)
					return err == nil && len(list) == 1 && list[0].KeeperPID != pid && len(list[0].VMs) == 1
				})
				time.Sleep(time.Second) // the next keeper looks whether all is as it was
				if notes := l.networks()[0].Notes; len(notes) > 0 {
					t.Errorf("the next keeper says %q", notes)
				}
				first.must("stop", "--force", "b")
			})
		})
	}
}

// runs starts a VM of that name on network dev in the background.
func (l *testHost) runs(name string) {
	l.Helper()
	l.must("run", "-d", l.profile(name, idle+"[[nic]]\nmode = \"nat\"\nnetwork = \"dev\"\n"))
}
