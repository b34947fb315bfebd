package snapshots

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/imagelock"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/states"
)

// disk makes a qcow2 image that only its owner may open.
func disk(t *testing.T, path string) *os.File {
	t.Helper()
	lab.Sh(t, "qemu-img create -q -f qcow2 "+path+" 16M; chmod 600 "+path)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// fill writes one byte all over the first MiB of a disk.
func fill(t *testing.T, f *os.File, b string) {
	t.Helper()
	lab.Sh(t, "qemu-io -f qcow2 -c 'write -P "+b+" 0 1M' "+f.Name()+" > /dev/null")
}

// filled reports whether the first MiB of a disk is of the byte, and the image is sound.
func filled(t *testing.T, f *os.File, b string) bool {
	t.Helper()
	lab.Sh(t, "qemu-img check -q "+f.Name())
	return holds(f, b)
}

func holds(f *os.File, b string) bool {
	out, err := exec.Command("qemu-io", "-r", "-f", "qcow2", "-c", "read -P "+b+" 0 1M", f.Name()).CombinedOutput()
	return err == nil && !strings.Contains(string(out), "verification failed")
}

// off is a VM with the disks, of which the last is read-only.
func off(t *testing.T, files ...*os.File) Off {
	t.Helper()
	o := Off{VM: "web", Search: os.Getenv("PATH")}
	for _, f := range files {
		o.Config.Disks = append(o.Config.Disks, machine.Disk{File: f, Format: "qcow2"})
	}
	cdrom, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cdrom.Close() })
	o.Config.Disks = append(o.Config.Disks, machine.Disk{File: cdrom, Format: "raw", ReadOnly: true})
	return o
}

// All disks of a VM that is off go back to the moment of a snapshot, and stay sound; the
// disks are closed to others.
func TestOff(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"), lab.Program("qemu-io"))
	dir := lab.Dir(t)
	a, b := disk(t, dir+"/a.qcow2"), disk(t, dir+"/b.qcow2")
	o, ctx := off(t, a, b), t.Context()
	fill(t, a, "0x11")
	fill(t, b, "0x12")
	if err := o.Take(ctx, "clean"); err != nil {
		t.Fatal(err)
	}
	if err := o.Take(ctx, "clean"); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v", err)
	}
	if err := o.Take(ctx, "7"); err == nil || !strings.Contains(err.Error(), "allowed") {
		t.Errorf("a number: %v", err)
	}
	fill(t, a, "0x21")
	fill(t, b, "0x22")
	if err := o.Take(ctx, "later"); err != nil {
		t.Fatal(err)
	}
	list, err := o.List(ctx)
	if err != nil || len(list) != 2 || list[0].Tag != "clean" || list[1].Tag != "later" || list[0].Memory != 0 || list[0].Made.IsZero() {
		t.Errorf("got %+v, %v", list, err)
	}
	for tag, want := range map[string][]string{"clean": {"0x11", "0x12"}, "later": {"0x21", "0x22"}} {
		s, err := o.Restore(ctx, tag)
		if err != nil || s.Tag != tag || !filled(t, a, want[0]) || !filled(t, b, want[1]) {
			t.Errorf("restored %s: %+v, %v", tag, s, err)
		}
	}
	if err := errors.Join(o.Remove(ctx, "clean"), o.Remove(ctx, "later")); err != nil {
		t.Error(err)
	}
	if list, err := o.List(ctx); err != nil || len(list) > 0 {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := o.Restore(ctx, "clean"); !errors.Is(err, ErrNone) {
		t.Errorf("restored what was removed: %v", err)
	}
	if err := o.Remove(ctx, "clean"); !errors.Is(err, ErrNone) {
		t.Errorf("removed twice: %v", err)
	}
}

// What cannot hold or give a snapshot is refused before any disk is changed.
func TestOffRefuses(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"), lab.Program("qemu-io"))
	dir, ctx := lab.Dir(t), t.Context()
	a, b := disk(t, dir+"/a.qcow2"), disk(t, dir+"/b.qcow2")
	alone, both := off(t, a), off(t, a, b)
	fill(t, a, "0x11")
	if err := alone.Take(ctx, "clean"); err != nil {
		t.Fatal(err)
	}
	fill(t, a, "0x21")
	if _, err := both.Restore(ctx, "clean"); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "b.qcow2") || !filled(t, a, "0x21") {
		t.Errorf("a disk that came later: %v", err)
	}
	if err := both.Take(ctx, "clean"); !errors.Is(err, ErrExists) {
		t.Errorf("a tag that one disk has: %v", err)
	}
	raw := off(t, a)
	raw.Config.Disks[0].Format = "raw"
	if err := raw.Take(ctx, "x"); err == nil || !strings.Contains(err.Error(), "format raw, which holds no snapshots") {
		t.Errorf("a raw disk: %v", err)
	}
	if _, err := off(t).List(ctx); !errors.Is(err, states.ErrNoDisk) {
		t.Errorf("no disk: %v", err)
	}
	if err := os.WriteFile(dir+"/no.qcow2", []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken, err := os.OpenFile(dir+"/no.qcow2", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	if err := off(t, a, broken).Take(ctx, "x"); err == nil || !strings.Contains(err.Error(), "not in qcow2 format") || strings.Contains(err.Error(), "/proc/self") {
		t.Errorf("no image: %v", err)
	}
	if list, err := alone.List(ctx); err != nil || len(list) != 1 {
		t.Errorf("got %+v, %v", list, err)
	}
	uses := exec.Command("qemu-io", "-f", "qcow2", "-c", "sleep 60000", a.Name())
	if err := uses.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { uses.Process.Kill(); uses.Wait() }()
	lab.Eventually(t, 20*time.Second, "qemu-io locks the disk", func() bool {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", uses.Process.Pid))
		return slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), "OFDLCK")
		})
	})
	if err := alone.Take(ctx, "x"); !errors.Is(err, imagelock.ErrInUse) {
		t.Errorf("a disk that qemu-io uses: %v", err)
	}
}

// The disks of a user are opened with the rights of that user.
func TestOffAsUser(t *testing.T) {
	lab.Require(t, lab.Root, lab.Program("qemu-img"))
	dir := lab.Dir(t)
	f := disk(t, filepath.Join(dir, "a.qcow2"))
	o := off(t, f)
	o.User = &asuser.User{UID: 64001, GID: 64001}
	if err := o.Take(t.Context(), "clean"); err == nil {
		t.Error("a user changes root's disk")
	}
	if err := f.Chown(64001, 64001); err != nil {
		t.Fatal(err)
	}
	if err := o.Take(t.Context(), "clean"); err != nil {
		t.Error(err)
	}
}

// A qemu-img that is killed at any time leaves what the guest wrote, or what it put back, and the
// snapshots, also when the guest writes on: the disk is repaired at once.
func TestOffKilled(t *testing.T) {
	lab.Require(t, lab.Program("qemu-img"), lab.Program("qemu-io"))
	f := disk(t, lab.Dir(t)+"/a.qcow2")
	o := off(t, f)
	fill(t, f, "0x11")
	if err := o.Take(t.Context(), "clean"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := errors.Join(o.Take(t.Context(), "x"), o.Remove(t.Context(), "x")); err != nil {
		t.Fatal(err)
	}
	whole, killed := time.Since(began)/2, 0
	for i := range 30 {
		wrote := fmt.Sprintf("0x%x", 0x20+i)
		fill(t, f, wrote)
		what := [][]string{{"-c", "x"}, {"-a", "clean"}, {"-d", "x"}}[i%3]
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(whole))))
		if o.changeWithin(ctx, f, what[0], what[1]) != nil {
			killed++
		}
		cancel()
		if !holds(f, wrote) && (what[0] != "-a" || !holds(f, "0x11")) {
			out, _ := exec.Command("sh", "-c", "qemu-io -r -f qcow2 -c 'read -v 0 64' -c 'read -P 0x11 0 1M' "+f.Name()+"; qemu-img check "+f.Name()+"; qemu-img snapshot -l "+f.Name()).CombinedOutput()
			t.Fatalf("killed while %v, the disk has neither %s nor what it had before:\n%s", what, wrote, out)
		}
	}
	if killed == 0 {
		t.Error("none was killed")
	}
	if _, err := o.Restore(t.Context(), "clean"); err != nil || !filled(t, f, "0x11") {
		t.Errorf("the disk is not as it was, %v", err)
	}
}
