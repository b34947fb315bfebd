package virtiofs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// TestMain makes the test binary the stage, and what tests start besides.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case "virtiofs":
		os.Exit(Main(os.Args[2:], os.Stderr))
	case "start":
		os.Exit(startAndWait(os.Args[2]))
	case "filtered":
		os.Exit(filtered(os.Args[2]))
	}
	os.Exit(m.Run())
}

// installed is the need for virtiofsd. QNET_VIRTIOFSD names another one, as for qnet.
var installed = lab.Need{Name: "virtiofsd", OK: func() bool { _, err := Find(os.Getenv("QNET_VIRTIOFSD")); return err == nil }}

// options are those of a test.
func options(t *testing.T) Options {
	t.Helper()
	lab.Require(t, installed, lab.Namespaces)
	program, err := Find(os.Getenv("QNET_VIRTIOFSD"))
	if err != nil {
		t.Fatal(err)
	}
	return Options{Exe: []string{"/proc/self/exe", "virtiofs"}, Program: program, Dir: t.TempDir(), Log: t.Output()}
}

// begin starts virtiofsd, which the test's end ends.
func begin(t *testing.T, s Share, o Options) *Daemon {
	t.Helper()
	d, err := Start(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// folder makes a folder that every user may enter, and opens it.
func folder(t *testing.T) *os.File {
	t.Helper()
	dir := lab.Dir(t)
	f, err := os.Open(dir)
	if err = errors.Join(err, os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// startAndWait starts virtiofsd, tells its process id or the error, and lives on until it is
// killed.
func startAndWait(dir string) int {
	if limit := os.Getenv("QNET_TEST_NAMESPACES"); limit != "" {
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte(limit), 0o644); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	folder, err := os.Open(dir)
	program, notFound := Find(os.Getenv("QNET_VIRTIOFSD"))
	if err := errors.Join(err, notFound); err != nil {
		fmt.Println(err)
		return 1
	}
	d, err := Start(Share{Folder: folder}, Options{Exe: []string{"/proc/self/exe", "virtiofs"}, Program: program, Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(d.PID())
	io.Copy(io.Discard, os.Stdin)
	return 0
}

// again runs this binary as another process.
func again(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Dir = "/"
	return cmd
}
