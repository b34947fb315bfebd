package screen_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/screen"
)

// firmware runs SeaBIOS without anything to boot, and with its boot menu.
func firmware(t *testing.T, withScreen bool) *qemu.VM {
	t.Helper()
	lab.Require(t, lab.QEMU)
	binary, err := program.Find(os.Getenv("PATH"), "")
	if err != nil {
		t.Fatal(err)
	}
	c := machine.Config{Binary: binary, Name: "screen", Memory: 64 << 20, CPUs: 1, Accel: machine.AccelTCG, Boot: machine.Boot{Menu: true}}
	c.Devices.Screen = withScreen
	vm, err := qemu.StartAuto(t.Context(), c, qemu.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(vm.PID(), syscall.SIGKILL)
		vm.Wait()
		_ = vm.Console().Close()
	})
	return vm
}

// await reads the console until it has a text.
func await(t *testing.T, vm *qemu.VM, text string) {
	t.Helper()
	vm.Console().SetReadDeadline(time.Now().Add(2 * time.Minute))
	var seen strings.Builder
	for b := make([]byte, 1); !strings.Contains(seen.String(), text); {
		if _, err := vm.Console().Read(b); err != nil {
			t.Fatalf("%v; the console has %q", err, seen.String())
		}
		seen.Write(b)
	}
}

// lit counts the pixels of a text screen that are not black, within its first rows.
func lit(t *testing.T, b []byte) int {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds().Size(); size != (image.Point{720, 400}) {
		t.Fatalf("the picture has %v", size)
	}
	n := 0
	for y := range 400 {
		for x := range 720 {
			if r, g, b, _ := picture.At(x, y).RGBA(); r+g+b > 0 {
				n++
			}
		}
	}
	return n
}

// The screen of the firmware can be looked at, the keyboard reaches it, and a viewer is
// served.
func TestScreenAndKeyboard(t *testing.T) {
	vm := firmware(t, true)
	await(t, vm, "Press ESC for boot menu")
	first, err := screen.Shot(t.Context(), vm.Monitor())
	if err != nil {
		t.Fatal(err)
	}
	if n := lit(t, first); n < 500 || n > 720*400/4 {
		t.Errorf("%d pixels are lit, of a screen with some words", n)
	}
	strokes, err := screen.Strokes("<esc>")
	if err != nil {
		t.Fatal(err)
	}
	if err := screen.Type(t.Context(), vm.Monitor(), strokes); err != nil {
		t.Fatal(err)
	}
	await(t, vm, "Select boot device")
	second, err := screen.Shot(t.Context(), vm.Monitor())
	if err != nil || lit(t, second) <= lit(t, first) {
		t.Errorf("the menu is not seen: %v", err)
	}
	for range 2 { // more viewers than one
		if got := greeting(t, vm); got != "RFB 003.008\n" {
			t.Errorf("the viewer got %q", got)
		}
	}
	if err := screen.Type(t.Context(), vm.Monitor(), []screen.Stroke{{"x-rated"}}); err == nil {
		t.Error("a key that there is not: no error")
	}
}

// greeting connects a viewer and returns what QEMU says first.
func greeting(t *testing.T, vm *qemu.VM) string {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(fds[0]), "viewer"), os.NewFile(uintptr(fds[1]), "viewer")
	err = screen.AddViewer(t.Context(), vm.Monitor(), theirs)
	theirs.Close()
	c, connErr := net.FileConn(ours)
	ours.Close()
	if err != nil || connErr != nil {
		t.Fatal(err, connErr)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 12)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Without a screen there is no picture, and the error says how to get one; the keyboard is
// there.
func TestWithoutScreen(t *testing.T) {
	vm := firmware(t, false)
	await(t, vm, "Press ESC for boot menu")
	_, err := screen.Shot(t.Context(), vm.Monitor())
	var hint interface{ Hint() string }
	if !errors.Is(err, screen.ErrNone) || !errors.As(err, &hint) || !strings.Contains(hint.Hint(), "[display]") {
		t.Errorf("got %v", err)
	}
	if err := screen.Type(t.Context(), vm.Monitor(), []screen.Stroke{{"esc"}}); err != nil {
		t.Fatal(err)
	}
	await(t, vm, "Select boot device")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := screen.Type(ctx, vm.Monitor(), []screen.Stroke{screen.Enter}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
