// Package lab runs tests in network and mount namespaces of their own, which
// play the host: whatever such a test does to links, rules, sysctls and /sys
// never reaches the machine.
package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const insideEnv = "QNET_LAB_INSIDE"

// Run executes f in a child process in new network and mount namespaces: the
// test binary runs again with this test alone. The child has lo up and nothing
// else, its own /sys and its own /run/netns. Only root can; see Require.
func Run(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		enter(t)
		f(t)
		return
	}
	Require(t, Root)
	timeout := "300s"
	if os.Getenv("QNET_STRESS") != "" {
		timeout = "1h"
	}
	args := []string{"-test.run", pattern(t.Name()), "-test.v", "-test.timeout", timeout}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name(), raceVariable+"="+noSleep)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	wait, err := Start(cmd)
	if err == nil {
		err = wait()
	}
	if strings.Contains(out.String(), "--- SKIP: "+t.Name()) && err == nil {
		t.Skipf("in the namespace:\n%s", &out)
	}
	if err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, &out)
	}
	t.Logf("in the namespace:\n%s", &out)
}

// Dir makes a directory for the test's time. A socket's path in it is short enough
// (108 bytes, unix(7)), which it is not in that of testing.T.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qnet") //nolint:usetesting // as said
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// pattern matches the one test, subtests part by part.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

func enter(t *testing.T) {
	t.Helper()
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		t.Fatalf("mount /sys: %v", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""); err != nil {
		t.Fatalf("mount /run/netns: %v", err)
	}
	Sh(t, "ip link set lo up")
}

// A Need is something a test cannot do without.
type Need struct {
	Name string
	OK   func() bool
}

// The needs tests have.
var (
	Root = Need{"root", func() bool { return os.Geteuid() == 0 }}
	Tun  = Need{"/dev/net/tun", func() bool { _, err := os.Stat("/dev/net/tun"); return err == nil }}
	QEMU = Program("qemu-system-x86_64")
)

// Program is the need for a program of the PATH.
func Program(name string) Need {
	return Need{name, func() bool { _, err := exec.LookPath(name); return err == nil }}
}

// Require skips the test where something is missing, and fails it instead when
// CI=true: there a skip would hide that nothing was tested.
func Require(t testing.TB, needs ...Need) {
	t.Helper()
	for _, n := range needs {
		if n.OK() {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("needs %s", n.Name)
		}
		t.Skipf("needs %s", n.Name)
	}
}

// Sh runs a shell script that must succeed within 30 s and returns its output.
func Sh(t testing.TB, script string) string {
	t.Helper()
	out, err := Try(script)
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return out
}

// Try is Sh for a script that may fail.
func Try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second // a background child may keep the pipe
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Eventually fails the test if ok does not hold within the time.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}

// PSS is a process's proportional memory in KiB (proc(5), smaps_rollup).
func PSS(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); words[0] == "Pss:" {
			n, _ := strconv.Atoi(words[1])
			return n
		}
	}
	return 0
}
