package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/lab"
)

// TestMain makes the test binary qnet itself, for the tests and for the keepers that qnet
// starts, so that all processes run under the race detector.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		lab.Instrument(os.Args)
		armFailpoints(os.Args[1:])
		os.Exit(Main(context.Background(), os.Args[1:], call.Env{
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		}))
	}
	hearInterrupts()
	os.Exit(m.Run())
}

// hearInterrupts lets the commands that tests start get SIGINT and SIGHUP, also if a shell
// runs the tests in its background and so ignores these signals.
func hearInterrupts() {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // exec(2) makes it the default again
		}
	}
}

// testHost is a host of a test's own to run qnet on.
type testHost struct {
	*testing.T
	dir    string // profiles go here
	run    string
	env    []string
	binary string // that runs as qnet, "" for this one
	before lab.Host
}

// inLab runs the test on a host of its own, see lab.Uplink, and checks
// afterwards that the host is as it was.
func inLab(t *testing.T, f func(l *testHost)) {
	t.Helper()
	lab.Require(t, lab.Root, lab.Tun, lab.QEMU, lab.Program("nft"), lab.Program("ip")) // root starts QEMU as nobody
	lab.Run(t, func(t *testing.T) {
		lab.Uplink(t)
		l := newLab(t)
		l.prepared()
		f(l)
		lab.NoRaces(t, l.dir)
		if !t.Failed() { // the first failure's leftovers only distract
			l.before.Check(t)
		}
	})
}

// prepared tells that the test has set its host up: so it must be at the end.
func (l *testHost) prepared() { l.before = lab.Snapshot(l.T, l.run) }

func newLab(t *testing.T) *testHost {
	t.Helper()
	dir := lab.Dir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &testHost{T: t, dir: dir, run: filepath.Join(dir, "run")}
	t.Cleanup(l.stopAll)
	l.env = append(os.Environ(), "QNET_RUN_DIR="+l.run, "QNET_STATE_DIR="+filepath.Join(dir, "state"), "LC_ALL=C", "TERM=xterm",
		"SUDO_UID=", "XDG_RUNTIME_DIR=", "SSH_CONNECTION=")
	return l
}

// stopAll ends the VMs that a failed test left running.
func (l *testHost) stopAll() {
	left, _ := os.ReadDir(filepath.Join(l.run, "vms"))
	for _, vm := range left {
		l.command("stop", "--force", vm.Name()).Run()
	}
}

// profile writes a profile and returns its path.
func (l *testHost) profile(name, text string) string {
	l.Helper()
	path := filepath.Join(l.dir, name+".toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.Fatal(err)
	}
	return path
}

// text is output that grows while it is read.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *text) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *text) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is a qnet command that runs.
type process struct {
	*exec.Cmd
	l           *testHost
	out, errout text
	done        chan struct{}
}

func (l *testHost) command(args ...string) *process {
	p := &process{l: l, Cmd: exec.Command(cmp.Or(l.binary, "/proc/self/exe"), args...), done: make(chan struct{})}
	p.Env, p.Stdout, p.Stderr = l.env, &p.out, &p.errout
	p.WaitDelay = 2 * time.Second
	return p
}

// start starts a command. It is killed at the test's end.
func (l *testHost) start(args ...string) *process {
	l.Helper()
	p := l.command(args...)
	p.begin()
	return p
}

func (p *process) begin() {
	p.l.Helper()
	wait, err := lab.Start(p.Cmd)
	if err != nil {
		p.l.Fatal(err)
	}
	go func() {
		wait()
		close(p.done)
	}()
	p.l.Cleanup(func() {
		p.Process.Kill()
		<-p.done
	})
}

// end waits for the command's end and returns its exit code.
func (p *process) end(within time.Duration) int {
	p.l.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.l.Fatalf("%v: still running after %s\n%s\n%s", p.Args[1:], within, &p.out, &p.errout)
	}
	return p.ProcessState.ExitCode()
}

// says waits until stdout or stderr holds the words. What an ended process wrote to a terminal
// may be on its way for a moment.
func (p *process) says(words string, within time.Duration) {
	p.l.Helper()
	limit, done, failure := time.After(within), p.done, fmt.Sprintf("does not say %q within %s", words, within)
	for !strings.Contains(p.out.String()+p.errout.String(), words) {
		select {
		case <-limit:
			p.l.Fatalf("%v: %s\n%s\n%s", p.Args[1:], failure, &p.out, &p.errout)
		case <-done:
			limit, done, failure = time.After(time.Second), nil, fmt.Sprintf("ended without saying %q", words)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// qnet runs a command to its end.
func (l *testHost) qnet(args ...string) (code int, stdout, stderr string) {
	l.Helper()
	p := l.start(args...)
	code = p.end(60 * time.Second)
	return code, p.out.String(), p.errout.String()
}

// must runs a command that succeeds.
func (l *testHost) must(args ...string) string {
	l.Helper()
	code, stdout, stderr := l.qnet(args...)
	if code != 0 {
		l.Fatalf("qnet %v: exit code %d\n%s\n%s", args, code, stdout, stderr)
	}
	return stdout
}

// refused runs a command that fails with the code, naming the cause and what to
// do next, and leaves the host as it was.
func (l *testHost) refused(code int, words []string, args ...string) {
	l.Helper()
	before := lab.Snapshot(l, l.run)
	got, stdout, stderr := l.qnet(args...)
	if got != code {
		l.Errorf("qnet %v: exit code %d, want %d\n%s\n%s", args, got, code, stdout, stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr, w) {
			l.Errorf("qnet %v: no %q in %q", args, w, stderr)
		}
	}
	if lines := strings.Count(stderr, "\n"); lines > 12 || strings.Contains(stderr, "goroutine") {
		l.Errorf("qnet %v: %d lines of error:\n%s", args, lines, stderr)
	}
	before.Check(l)
}
