package states_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/internal/lab/guest"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/qmp"
	"github.com/qnet-vm/qnet/qemu/standstill"
	"github.com/qnet-vm/qnet/qemu/states"
)

// counting prints a number ten times in a second.
const counting = `i=0; while :; do i=$((i+1)); echo "count $i"; usleep 100000; done`

// machine is a QEMU with the test guest.
type machine struct {
	*qmp.Monitor
	cmd *exec.Cmd

	mu   sync.Mutex
	text bytes.Buffer
}

// start starts a QEMU that prints numbers on its console, from a boot or from a state.
func start(t *testing.T, disk string, incoming bool) *machine {
	t.Helper()
	binary, err := program.Find(os.Getenv("PATH"), "")
	lab.Require(t, lab.Need{Name: "QEMU", OK: func() bool { return err == nil }})
	kernel, initrd := guest.Files(t)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp")
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,graphics=off", "-accel", "tcg", "-cpu", "max", "-m", "96", "-S",
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet " + guest.Script(counting),
	}
	if disk != "" {
		args = append(args, "-blockdev", `{"driver":"qcow2","node-name":"image0","file":{"driver":"file","filename":"`+disk+`"}}`, "-device", "virtio-blk-pci,drive=image0")
	}
	if incoming {
		args = append(args, "-incoming", "defer")
	}
	m := &machine{cmd: exec.Command(binary, args...)}
	m.cmd.ExtraFiles, m.cmd.Stdout, m.cmd.Stderr = []*os.File{theirs}, m, m
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.Disconnect()
	})
	theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	m.Monitor = qmp.New(conn)
	if err := m.ConnectContext(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, m.said())
	}
	return m
}

func (m *machine) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(b)
}

func (m *machine) said() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// do runs a command.
func (m *machine) do(t *testing.T, command string) {
	t.Helper()
	if err := m.Execute(t.Context(), command, nil, nil); err != nil {
		t.Fatal(err)
	}
}

// await waits for a text on the console.
func (m *machine) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(m.said(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %q in:\n%s", text, m.said())
		}
	}
}

func (m *machine) state(t *testing.T) string {
	t.Helper()
	state, err := standstill.RunState(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// A guest goes on in another QEMU where the first one left it, and boots no second time.
func TestSaveAndLoad(t *testing.T) {
	first := start(t, "", false)
	first.do(t, "cont")
	first.await(t, "count 3\r")
	first.do(t, "stop")
	path := filepath.Join(t.TempDir(), "memory")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := states.Save(t.Context(), first, file); err != nil {
		t.Fatal(err)
	}
	if got := first.state(t); got != "postmigrate" {
		t.Errorf("saved, the guest is %q", got)
	}
	first.do(t, "quit")
	first.cmd.Wait()

	second := start(t, "", true)
	saved, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	began := time.Now()
	if err := states.Load(t.Context(), second, saved); err != nil {
		t.Fatal(err)
	}
	if got := second.state(t); got != "paused" {
		t.Errorf("loaded, the guest is %q", got)
	}
	second.do(t, "cont")
	second.await(t, "count 20\r")
	t.Log("loaded and ten counts after", time.Since(began))
	if said := second.said(); strings.Contains(said, "count 1\r") || strings.Contains(said, "SeaBIOS") {
		t.Errorf("the guest booted:\n%s", said)
	}
}

// A disk that is full leaves the guest as it was: it goes on.
func TestSaveOnFullDisk(t *testing.T) {
	m := start(t, "", false)
	m.do(t, "cont")
	m.await(t, "count 3\r")
	m.do(t, "stop")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	err = states.Save(t.Context(), m, full)
	if err == nil || !strings.Contains(err.Error(), "space") {
		t.Errorf("got %v, want no space left", err)
	}
	m.do(t, "cont")
	m.await(t, "count 10\r")
}

// A file that is none of ours, or cut, is refused, and QEMU says so.
func TestLoadRubbish(t *testing.T) {
	m := start(t, "", true)
	path := filepath.Join(t.TempDir(), "memory")
	if err := os.WriteFile(path, []byte("no memory"), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := states.Load(t.Context(), m, file); err == nil {
		t.Error("rubbish is loaded")
	} else {
		t.Log(err)
	}
}

// A save that is given up leaves the guest as it was.
func TestSaveGivenUp(t *testing.T) {
	m := start(t, "", false)
	m.do(t, "cont")
	m.await(t, "count 3\r")
	m.do(t, "stop")
	r, w, err := os.Pipe() // which nobody reads until later, as a disk that hangs
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { io.Copy(io.Discard, r) })
	if err := states.Save(ctx, m, w); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	m.do(t, "cont")
	m.await(t, "count 10\r")
}

// Snapshots are made, listed, restored and deleted.
func TestSnapshots(t *testing.T) {
	img, err := exec.LookPath("qemu-img")
	lab.Require(t, lab.Need{Name: "qemu-img", OK: func() bool { return err == nil }})
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	if out, err := exec.Command(img, "create", "-f", "qcow2", disk, "64M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := start(t, disk, false)
	m.do(t, "cont")
	m.await(t, "count 3\r")
	disks := states.Disks{"image0"}
	if err := states.TakeSnapshot(t.Context(), m, "clean", disks); err != nil {
		t.Fatal(err)
	}
	if got := m.state(t); got != "running" {
		t.Errorf("after the snapshot the guest is %q", got)
	}
	if err := states.TakeSnapshot(t.Context(), m, "clean", disks); err == nil {
		t.Error("a second snapshot of the tag")
	}
	list, err := states.Snapshots(t.Context(), m, disks)
	if err != nil || len(list) != 1 || list[0].Tag != "clean" || list[0].Memory == 0 || time.Since(time.Unix(list[0].Made, 0)) > time.Hour {
		t.Errorf("got %+v, %v", list, err)
	}
	m.await(t, "count 30\r")
	m.do(t, "stop")
	before := len(m.said())
	if err := states.RestoreSnapshot(t.Context(), m, "clean", disks); err != nil {
		t.Fatal(err)
	}
	m.do(t, "cont")
	for deadline := time.Now().Add(time.Minute); !strings.Contains(m.said()[before:], "count 20\r"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not count again:\n%s", m.said()[before:])
		}
	}
	if err := states.DeleteSnapshot(t.Context(), m, "clean", disks); err != nil {
		t.Fatal(err)
	}
	if list, err := states.Snapshots(t.Context(), m, disks); err != nil || len(list) != 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	if err := states.RestoreSnapshot(t.Context(), m, "clean", disks); err == nil {
		t.Error("a snapshot that is gone is restored")
	}
	if err := states.TakeSnapshot(t.Context(), m, "x", nil); !errors.Is(err, states.ErrNoDisk) {
		t.Errorf("got %v", err)
	}
}

// mute is a monitor of a QEMU that takes a state and then says nothing more.
type mute struct{}

func (mute) Execute(ctx context.Context, name string, _, _ any) error {
	if name != "query-migrate" {
		return nil
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (m mute) ExecuteWith(ctx context.Context, _ *os.File, name string, args, result any) error {
	return m.Execute(ctx, name, args, result)
}

// A load of a QEMU that does not answer ends with its context.
func TestLoadHeedsItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- states.Load(ctx, mute{}, os.Stdin) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits on")
	}
}
