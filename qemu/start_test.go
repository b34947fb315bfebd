package qemu_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

var nobody = &qemu.Credential{UID: 65534, GID: 65534}

func TestStartContStop(t *testing.T) {
	c := config(requireQEMU(t))
	c.NICs = []machine.NIC{{MAC: mac, User: true}, {MAC: mac, User: true, Model: "e1000"}}
	vm := start(t, c, qemu.StartOptions{})
	var status struct{ Status string }
	if err := vm.Monitor().Execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "prelaunch" {
		t.Errorf("got %q, %v, want prelaunch", status.Status, err)
	}
	if err := vm.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	if vm.Accel() != machine.AccelTCG {
		t.Errorf("got accelerator %q", vm.Accel())
	}
	if err := vm.Stop(t.Context(), qemu.StopOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if s := vm.Wait(); s.Err() != nil || s.GuestShutdown {
		t.Errorf("got %+v, want a clean exit that is not the guest's", s)
	}
}

func TestFirmwareTalksOnConsole(t *testing.T) {
	vm, err := qemu.Start(t.Context(), config(requireQEMU(t)), qemu.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = vm.Stop(context.Background(), qemu.StopOptions{Force: true}) }()
	if err := vm.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = vm.Console().SetReadDeadline(time.Now().Add(time.Minute))
	var text []byte
	for buf := make([]byte, 4096); !strings.Contains(string(text), "SeaBIOS"); {
		n, err := vm.Console().Read(buf)
		if err != nil {
			t.Fatalf("got %q, %v, want SeaBIOS", text, err)
		}
		text = append(text, buf[:n]...)
	}
}

// TestQEMUHasNoRights reads what the kernel says about every thread.
func TestQEMUHasNoRights(t *testing.T) {
	lab.Require(t, lab.Root)
	binary := requireQEMU(t)
	for name, test := range map[string]struct {
		cred *qemu.Credential
		uid  string
	}{
		"as-nobody": {nobody, "Uid:\t65534\t65534\t65534\t65534"},
		"as-caller": {nil, "Uid:\t0\t0\t0\t0"},
	} {
		t.Run(name, func(t *testing.T) {
			leaked := leak(t)
			vm := start(t, config(binary), qemu.StartOptions{Credential: test.cred})
			proc := fmt.Sprintf("/proc/%d", vm.PID())
			tasks, err := filepath.Glob(proc + "/task/*/status")
			if err != nil || len(tasks) == 0 {
				t.Fatalf("got %v, %v", tasks, err)
			}
			const none = "\t0000000000000000"
			for _, task := range tasks {
				status := read(t, task)
				for _, want := range []string{
					test.uid, "CapInh:" + none, "CapPrm:" + none, "CapEff:" + none, "CapBnd:" + none, "CapAmb:" + none,
					"NoNewPrivs:\t1", "Seccomp:\t2",
				} {
					if !strings.Contains(status, want+"\n") {
						t.Errorf("no %q in %s", want, status)
					}
				}
			}
			if test.cred != nil && !strings.Contains(read(t, tasks[0]), "Groups:\t \n") {
				t.Errorf("supplementary groups left in %s", read(t, tasks[0]))
			}
			if env := read(t, proc+"/environ"); env != "PATH=/usr/bin:/bin\x00LANG=C\x00LC_ALL=C\x00" {
				t.Errorf("got environment %q", env)
			}
			if cwd, err := os.Readlink(proc + "/cwd"); err != nil || cwd != "/" {
				t.Errorf("got working directory %q, %v", cwd, err)
			}
			if sid, err := unix.Getsid(vm.PID()); err != nil || sid != vm.PID() {
				t.Errorf("got session %d, %v, want its own", sid, err)
			}
			if slices.Contains(openFiles(t, proc), leaked) {
				t.Errorf("%s reached QEMU", leaked)
			}
		})
	}
}

// leak opens a file the way a careless parent leaves it behind.
func leak(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR, 0o600) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return path
}

func openFiles(t *testing.T, proc string) (paths []string) {
	t.Helper()
	links, err := filepath.Glob(proc + "/fd/*")
	if err != nil || len(links) == 0 {
		t.Fatalf("got %v, %v", links, err)
	}
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil {
			paths = append(paths, path)
		}
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCallerKeepsItsRights(t *testing.T) {
	lab.Require(t, lab.Root)
	start(t, config(fake(t, "good")), qemu.StartOptions{})
	for range 2 * runtime.GOMAXPROCS(0) {
		done := make(chan string)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b, _ := os.ReadFile("/proc/thread-self/status")
			done <- string(b)
		}()
		if status := <-done; !strings.Contains(status, "NoNewPrivs:\t0\n") {
			t.Fatalf("a thread of the caller lost its rights: %s", status)
		}
	}
}

func TestStartFailures(t *testing.T) {
	for name, test := range map[string]struct {
		binary func(*testing.T) string
		want   string
		is     error
		exit   bool
	}{
		"exits-before-qmp":  {body(`echo "-netdev: no such thing" >&2; exit 1`), "status 1: -netdev: no such thing", nil, true},
		"killed-by-segv":    {body(`kill -SEGV $$`), "QEMU aborted or crashed (signal 11, segmentation fault)", nil, true},
		"10-MB-on-stderr":   {body(`head -c 10485760 /dev/zero | tr '\0' 'x' >&2; echo >&2; echo last >&2; exit 7`), "\n  last", nil, true},
		"forks-and-exits":   {body(`sleep 30 & exit 0`), "status 0", nil, true},
		"exits-quietly":     {body(`exit 0`), "status 0", nil, true},
		"silent":            {body(`echo hello >&2; exec sleep 30`), "hello", context.DeadlineExceeded, false},
		"closes-qmp":        {body(`exec 3>&-; exec 4>&-; exec sleep 30`), "closed", nil, false},
		"old-by-greeting":   {func(t *testing.T) string { t.Helper(); return fake(t, "old") }, "QEMU 7.1.9 is too old", program.ErrTooOld, false},
		"old-by-its-errors": {body(`[ "$1" = -version ] && echo "QEMU emulator version 6.2.0 (Debian)" && exit 0; echo "-device: invalid" >&2; exit 1`), "QEMU 6.2.0 is too old", program.ErrTooOld, false},
		"not-there":         {func(*testing.T) string { return "/nonexistent/qemu" }, "/nonexistent/qemu", fs.ErrNotExist, false},
		"wrong-address":     {func(t *testing.T) string { t.Helper(); return fake(t, "good") }, "check NIC 0", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(test.binary(t))
			if name == "wrong-address" {
				c.NICs = []machine.NIC{{MAC: []byte{0x52, 0x54, 0, 0, 0, 1}, User: true}}
			}
			before := time.Now()
			o := qemu.StartOptions{StartTimeout: 5 * time.Second}
			if name == "killed-by-segv" { // by itself, which the first process of a PID namespace cannot
				o.Sandbox = sandbox.Off
			}
			_, err := qemu.Start(t.Context(), c, o)
			if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, want %q (%v)", err, test.want, test.is)
			}
			var died *qemu.ExitError
			if errors.As(err, &died) != test.exit {
				t.Errorf("got %v, ExitError is %v, want %v", err, !test.exit, test.exit)
			}
			if err != nil && len(err.Error()) > 20_000 {
				t.Errorf("got an error of %d bytes", len(err.Error()))
			}
			if took := time.Since(before); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

// An abort of QEMU ends by SIGSEGV where QEMU is the first process of a PID namespace, as it is
// confined by root, and by SIGABRT elsewhere. The error says either way what happened, with QEMU's last
// words.
func TestAbortIsReported(t *testing.T) {
	lab.Require(t, lab.Program("perl"), lab.Root)
	const words = "qemu-system-x86_64: ../hw/net/virtio-net.c:1: Assertion `n' failed."
	for mode, signal := range map[sandbox.Mode]syscall.Signal{sandbox.Auto: syscall.SIGSEGV, sandbox.Off: syscall.SIGABRT} {
		text := fmt.Sprintf(`[ "$1" = -version ] && echo "QEMU emulator version 8.2.0" && exit; exec perl -MPOSIX -e 'print STDERR "%s\n"; POSIX::abort()'`, strings.ReplaceAll(words, "'", `'\''`))
		_, err := qemu.Start(t.Context(), config(script(t, text)), qemu.StartOptions{Sandbox: mode})
		died, ok := errors.AsType[*qemu.ExitError](err)
		if want := fmt.Sprintf("QEMU aborted or crashed (signal %d, %s): %s", int(signal), signal, words); !ok || died.Status.Signal != signal || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("sandbox %s: got %v, want %s", mode, err, want)
		}
	}
}

func body(text string) func(*testing.T) string {
	return func(t *testing.T) string { t.Helper(); return script(t, text) }
}

func TestQEMUsOwnErrorIsShown(t *testing.T) {
	c := config(requireQEMU(t))
	c.Extra = []string{"-device", "no-such-device"}
	var log strings.Builder
	_, err := qemu.Start(t.Context(), c, qemu.StartOptions{Stderr: &log})
	var died *qemu.ExitError
	if !errors.As(err, &died) || !strings.Contains(died.Status.Stderr, "no-such-device") {
		t.Errorf("got %v, want QEMU's words about the device", err)
	}
	if !strings.Contains(log.String(), "no-such-device") {
		t.Errorf("got %q in the log", log.String())
	}
}

func TestStartIsCancelled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := qemu.Start(ctx, config(script(t, "exec sleep 30")), qemu.StartOptions{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}

func TestNothingLeaks(t *testing.T) {
	binary := fake(t, "good")
	run := func() {
		vm, err := qemu.Start(t.Context(), config(binary), qemu.StartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := vm.Stop(t.Context(), qemu.StopOptions{}); err != nil {
			t.Fatal(err)
		}
		_ = vm.Console().Close()
		_, _ = qemu.Start(t.Context(), config("/nonexistent"), qemu.StartOptions{})
	}
	run()
	files, goroutines := len(openFiles(t, "/proc/self")), runtime.NumGoroutine()
	for range 5 {
		run()
	}
	if got := len(openFiles(t, "/proc/self")); got > files {
		t.Errorf("got %d open files, want %d", got, files)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %d goroutines, want %d", runtime.NumGoroutine(), goroutines)
		}
	}
}

// TestUnreadableKernelReachesQEMU: root may read a kernel that the user QEMU
// runs as may not, as /boot/vmlinuz is on some distributions.
func TestUnreadableKernelReachesQEMU(t *testing.T) {
	lab.Require(t, lab.Root)
	c := config(requireQEMU(t))
	c.Kernel = image(t, make([]byte, 64<<10)) // mode 0600; QEMU takes zeros for an ancient kernel
	vm := start(t, c, qemu.StartOptions{Credential: nobody})
	if files := openFiles(t, fmt.Sprintf("/proc/%d", vm.PID())); !slices.Contains(files, "/memfd:qnet (deleted)") {
		t.Errorf("got %v, want a copy in memory", files)
	}
}

func TestSignalIsReported(t *testing.T) {
	vm := start(t, config(requireQEMU(t)), qemu.StartOptions{})
	if err := syscall.Kill(vm.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := vm.Wait(); s.Signal != syscall.SIGKILL || s.Code != 0 || s.Err() == nil {
		t.Errorf("got %+v, want SIGKILL", s)
	}
}
