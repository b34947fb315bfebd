package jail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/internal/lab"
)

// dir is a directory that also another user may enter.
func dir(t *testing.T) string {
	t.Helper()
	d := t.TempDir()
	os.Chmod(filepath.Dir(d), 0o755)
	os.Chmod(d, 0o755)
	return d
}

func open(t *testing.T, path string, text string) *os.File {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// notRoot makes the command another user's where the test is root.
func (c Command) notRoot() Command {
	if os.Geteuid() == 0 && c.Credential == nil {
		c.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return c
}

func TestNeverRoot(t *testing.T) {
	lab.Require(t, lab.Root)
	for _, c := range []Command{{Path: "/bin/true"}, {Path: "/bin/true", Credential: &syscall.Credential{}}} {
		if err := Run(t.Context(), c); !errors.Is(err, errRoot) {
			t.Errorf("got %v", err)
		}
	}
}

// shell runs a script in the jail.
func shell(t *testing.T, script string, c Command) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c.Path, c.Args = "/bin/sh", []string{"-c", script}
	c.Stdout, c.Stderr = &out, &out
	err := Run(t.Context(), c.notRoot())
	return out.String(), err
}

// The program reads what it may read, writes what it may write, and nothing else.
func TestOnlyItsFiles(t *testing.T) {
	if confine.Landlock() == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs Landlock")
		}
		t.Skip("needs Landlock")
	}
	d := dir(t)
	in, out := open(t, d+"/in", "words"), open(t, d+"/out", "old text, longer")
	other := open(t, d+"/other", "secret").Name()
	out.Chmod(0o666)
	c := Command{Read: []*os.File{in}, Write: []*os.File{out}}
	if text, err := shell(t, "cat "+FD(0)+" > "+FD(1), c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if got, _ := os.ReadFile(out.Name()); string(got) != "words" {
		t.Errorf("written: %q", got)
	}
	for _, script := range []string{
		"cat " + other, "cat /etc/passwd", "echo x > " + FD(0), "echo x > " + d + "/new", "rm " + other, "ls " + d, "mkdir " + d + "/sub",
	} {
		if text, err := shell(t, script, c); err == nil || strings.Contains(text, "secret") || !strings.Contains(text, "ermission denied") && !strings.Contains(text, "cannot create") {
			t.Errorf("%s: got %v, %q", script, err, text)
		}
	}
	if got, _ := os.ReadFile(in.Name()); string(got) != "words" {
		t.Errorf("the input is now %q", got)
	}
}

// A program that may use root's files as another user has the one right for it, and reaches no
// other file.
func TestAnyOwner(t *testing.T) {
	lab.Require(t, lab.Root)
	d := dir(t)
	out := open(t, d+"/out", "root's own")
	other := open(t, d+"/other", "secret").Name()
	if err := errors.Join(out.Chmod(0o600), os.Chmod(other, 0o600)); err != nil {
		t.Fatal(err)
	}
	c := Command{Write: []*os.File{out}}
	if text, err := shell(t, "cat "+FD(0), c); err == nil {
		t.Errorf("without AnyOwner: %s", text)
	}
	c.AnyOwner = true
	if text, err := shell(t, "id -u; cat "+FD(0)+"; echo new > "+FD(0), c); err != nil || text != "65534\nroot's own" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, script := range []string{"cat " + other, "echo x > " + other, "truncate -s 0 " + other, "chmod 666 " + other, "chown 65534 " + other, "rm " + other, "cat /etc/shadow", "kill -0 1"} {
		if text, err := shell(t, script, c); err == nil || strings.Contains(text, "secret") {
			t.Errorf("%s: got %v, %q", script, err, text)
		}
	}
	status, err := shell(t, "while read -r name value; do case $name in CapEff:|CapPrm:|CapBnd:|CapAmb:) echo $value; esac; done < /proc/self/status", Command{AnyOwner: true, Also: []string{"/proc"}})
	if want := strings.Repeat("0000000000000002\n", 4); err != nil || status != want {
		t.Errorf("its capabilities are %q, want %q, %v", status, want, err)
	}
	if got, _ := os.ReadFile(other); string(got) != "secret" {
		t.Errorf("the other file is now %q", got)
	}
}

// TestMain makes the test binary a program that tells what it can do.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "tell" {
		bounding, _ := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_ADMIN, 0, 0, 0)
		privileges, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
		_, tcp := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		_, local := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		groups, _ := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups, bounding, privileges, tcp, local, unix.Unshare(unix.CLONE_NEWUSER), os.Environ())
		return
	}
	if len(os.Args) > 2 && os.Args[1] == "outlive" {
		f, err := os.OpenFile(os.Args[2], os.O_RDWR, 0)
		if err == nil {
			c := Command{Path: "/bin/sh", Args: []string{"-c", "echo $$ > " + FD(0) + "; sleep 1; echo done > " + FD(0)}, Write: []*os.File{f}, Outlives: len(os.Args) > 3}
			err = Run(context.Background(), c.notRoot())
		}
		fmt.Println(err)
		return
	}
	os.Exit(m.Run())
}

// A program that is to outlive its caller goes on to its end where the caller is killed; others
// end with it.
func TestOutlives(t *testing.T) {
	for want, more := range map[string][]string{"done\n": {"outlives"}, "": nil} {
		out := open(t, dir(t)+"/out", "")
		out.Chmod(0o666)
		caller := exec.Command("/proc/self/exe", append([]string{"outlive", out.Name()}, more...)...)
		if err := caller.Start(); err != nil {
			t.Fatal(err)
		}
		said := func() string { b, _ := os.ReadFile(out.Name()); return string(b) }
		lab.Eventually(t, 20*time.Second, "the program has begun", func() bool { return strings.HasSuffix(said(), "\n") })
		pid := strings.TrimSpace(said())
		caller.Process.Kill()
		caller.Wait()
		lab.Eventually(t, 20*time.Second, "the program has ended", func() bool {
			_, err := os.Readlink("/proc/" + pid + "/exe")
			return err != nil
		})
		if want == "" {
			want = pid + "\n"
		}
		if got := said(); got != want {
			t.Errorf("it wrote %q, want %q", got, want)
		}
	}
}

// told is what the program says of itself in the jail.
func told(t *testing.T, c Command) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	c.Path, c.Args = filepath.Join(dir(t), "tell"), []string{"tell"}
	if err := os.WriteFile(c.Path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := Run(t.Context(), c.notRoot()); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	return strings.TrimSpace(out.String())
}

const nothing = " 1 operation not permitted operation not permitted operation not permitted [PATH=/usr/bin:/bin LANG=C LC_ALL=C]"

func TestNoConnections(t *testing.T) {
	if got := told(t, Command{}); !strings.HasSuffix(got, nothing) {
		t.Errorf("got %s, want the end%s", got, nothing)
	}
}

func TestNoRights(t *testing.T) {
	lab.Require(t, lab.Root)
	got := told(t, Command{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	if want := "65534 65534 [] 0" + nothing; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Nothing of the thread's confinement stays with the process.
func TestCallerKeepsItsRights(t *testing.T) {
	if text, err := shell(t, "exit 0", Command{}); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for range 20 {
		if out, err := exec.Command("cat", "/etc/passwd").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestLimits(t *testing.T) {
	d := dir(t)
	out := open(t, d+"/out", "")
	out.Chmod(0o666)
	c := Command{Write: []*os.File{out}, Limits: Limits{FileSize: 64 << 10, CPU: time.Second}}
	if text, err := shell(t, "sleep 0.2; cat /dev/zero > "+FD(0), c); err == nil {
		t.Errorf("no limit on a file's size: %s", text)
	}
	if info, err := out.Stat(); err != nil || info.Size() > 64<<10 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	began := time.Now()
	if text, err := shell(t, "while :; do :; done", c); err == nil || time.Since(began) > 30*time.Second {
		t.Errorf("no limit on time: %v, %s", err, text)
	}
}

func TestContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := Run(ctx, Command{Path: "/bin/sleep", Args: []string{"60"}}.notRoot()); err == nil || time.Since(began) > 30*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}
