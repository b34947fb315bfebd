// Package lab gives a test a host of its own: new network and mount namespaces,
// in which the test may change links, rules, sysctls and /sys. The machine itself
// does not change.
//
// [Run] enters the namespaces. [Uplink], [FreeNIC] and [NewLAN] put a network
// around the host, [Guest] adds a stand-in for a VM, [Snapshot] compares the host
// before and after. [Require] decides what a test does without: it skips on a
// laptop and fails in CI.
//
// A test may run in any number of labs at a time, but not change a lab from two
// goroutines.
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
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv names the test that the process runs in its namespaces.
const insideEnv = "QNET_LAB_INSIDE"

// Stress reports whether tests try everything, which takes long, instead of a sample:
// `make stress` and `make lan` set the variable.
func Stress() bool { return os.Getenv("QNET_STRESS") != "" }

// Run executes f in a child process, the test binary with this test alone, in new
// network and mount namespaces. The child has lo up and no other link, and its own
// /sys and /run/netns.
//
// Without root, the child also enters a new user namespace, in which it is uid 0
// with all capabilities over its own network, but has no more rights to files
// than the user. There /run is empty.
//
// The tests of a package that call Run run side by side, as many as -parallel says,
// after those that do not. So a test, or a parent of it, with statements after its t.Run
// does not find them done.
func Run(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		enter(t)
		f(t)
		return
	}
	Require(t, Namespaces, Program("nft"), Program("ping"))
	beside(t)
	cmd := exec.Command("/proc/self/exe", childArgs(t.Name())...)
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name(), raceEnv+"="+noSleep)
	cmd.SysProcAttr = newNamespaces()
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

// besides are the tests that run beside others, by their T.
var besides sync.Map

// beside lets the test run beside the other labs of its package: each is a process of its
// own, which waits for guests and for other programs most of the time. A lab within a lab
// is the one that its test waits for.
func beside(t *testing.T) {
	if _, twice := besides.LoadOrStore(t, true); !twice && os.Getenv(insideEnv) == "" {
		t.Parallel()
	}
}

// childArgs make the test binary run one test, for at most half an hour.
func childArgs(name string) []string {
	timeout := "30m"
	if Stress() {
		timeout = "1h"
	}
	args := []string{"-test.run", pattern(name), "-test.v", "-test.timeout", timeout}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if coverDir != "" {
		args = append(args, "-test.gocoverdir", coverDir)
	}
	return args
}

// pattern matches the one test, subtests part by part.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// newNamespaces starts a process in new network and mount namespaces, without root
// in a user namespace too (user_namespaces(7)).
func newNamespaces() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		a.Unshareflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// enterScript prepares new namespaces. A user namespace has no rights to the
// machine's /run, so an empty one hides it.
const enterScript = `
mount -t sysfs sysfs /sys
[ -w /run ] || mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link set lo up`

func enter(t *testing.T) {
	t.Helper()
	Sh(t, enterScript)
}

// canEnter reports whether a child process can do what Run needs. Kernels and
// security modules may forbid user namespaces, or allow them without
// capabilities (Ubuntu since 23.10), so only the attempt shows it.
var canEnter = sync.OnceValue(func() bool {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", enterScript)
	cmd.SysProcAttr = newNamespaces()
	return cmd.Run() == nil
})

// Dir makes a directory that is removed at the test's end. Unlike that of
// testing.T.TempDir, its path is short enough for the address of a socket in it
// (108 bytes, unix(7)).
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qnet") //nolint:usetesting // the path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
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

// Eventually fails the test if ok does not hold within the time.
func Eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}
