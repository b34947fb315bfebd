package lab

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user that no system has.
const nobody = 64001

// A lab works without root, where the kernel lets users make namespaces.
func TestLabOfAUser(t *testing.T) {
	Require(t, Root)
	// /proc/self/exe is executable whatever the directories above the file allow.
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestNamespaceIsEmpty$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(cmd.Environ(), "TMPDIR=/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("a user has no namespaces here:\n%s", out)
	case !strings.Contains(string(out), "--- PASS: TestNamespaceIsEmpty"):
		t.Errorf("the test did not run:\n%s", out)
	}
}
