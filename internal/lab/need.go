package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Need is something a test cannot do without. OK tries whether it is there.
type Need struct {
	Name string
	OK   func() bool
}

// The needs of tests besides programs. With -short, the ring of tests that takes a
// minute and no root (`make test-unit`), no need is
// met but Namespaces and programs: so the ring is the same on every machine.
var (
	// Namespaces is the right to make network and mount namespaces, which root
	// has, and others get by a user namespace.
	Namespaces = Need{"root, or user namespaces", canEnter}
	// Root is the right to become other users, to open /dev/tapN of a macvtap, and
	// to any file. The uid 0 of a user namespace that maps one user has none of it.
	Root = Need{"root", inFull(isRoot)}
	// Tun is the right to make taps.
	Tun = Need{"/dev/net/tun", inFull(opensTun)}
	// Legacy is iptables-legacy, whose tables only root can list
	// (/proc/net/ip_tables_names).
	Legacy = Need{"iptables-legacy, as root", inFull(func() bool { return isRoot() && hasProgram("iptables-legacy") })}
	QEMU   = Need{"qemu-system-x86_64", inFull(func() bool { return hasProgram("qemu-system-x86_64") })}
	// OVMF is UEFI firmware with its descriptors, as distributions ship it.
	OVMF = Need{"ovmf", func() bool {
		list, err := filepath.Glob("/usr/share/qemu/firmware/*.json")
		return err == nil && len(list) > 0
	}}
)

// inFull is a need that the tests with -short do without.
func inFull(ok func() bool) func() bool {
	return func() bool { return !testing.Short() && ok() }
}

// Program is the need for a program of the PATH, or of a path.
func Program(name string) Need {
	return Need{name, func() bool { return hasProgram(name) }}
}

// File is the need for a file that make makes below the module's directory.
func File(path, target string) Need {
	return Need{path + ": make " + target, func() bool { _, err := os.Stat(Module(path)); return err == nil }}
}

func hasProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// oneUser ends the line of a uid_map that maps one user (user_namespaces(7)).
const oneUser = "1"

func isRoot() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	words := strings.Fields(string(b))
	return os.Geteuid() == 0 && err == nil && (len(words) != 3 || words[2] != oneUser)
}

func opensTun() bool {
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// Require skips the test where something is missing. With CI=true it fails the
// test instead, because there a skip would hide that nothing was tested; but not
// with -short, whose ring of tests runs without root and without QEMU.
func Require(t testing.TB, needs ...Need) {
	t.Helper()
	for _, n := range needs {
		if n.OK() {
			continue
		}
		if os.Getenv("CI") == "true" && !testing.Short() {
			t.Fatalf("needs %s", n.Name)
		}
		t.Skipf("needs %s", n.Name)
	}
}

// Module is a path below the module's directory, where go.mod is.
func Module(path string) string {
	dir, err := os.Getwd()
	for ; err == nil && dir != "/"; dir = filepath.Dir(dir) {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			break
		}
	}
	return filepath.Join(dir, path)
}
