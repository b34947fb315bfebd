package hardware

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/profiles"
)

// Only files and block devices are opened, and those of a plan not at all.
func TestOpener(t *testing.T) {
	dir := t.TempDir()
	file, fifo := filepath.Join(dir, "file"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	o := Files{infos: map[*os.File]fs.FileInfo{}}
	defer o.Close()
	if f, err := o.open("disk", "", os.O_RDONLY); f != nil || err != nil {
		t.Errorf("no path: %v, %v", f, err)
	}
	if f, err := o.open("disk", file, os.O_RDWR); f == nil || err != nil {
		t.Errorf("a file: %v", err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory", fifo: "neither a file nor a block device", "/dev/null": "neither a file nor a block device",
	} {
		_, err := o.open("disk", path, os.O_RDONLY)
		var bad *FileError
		if !errors.As(err, &bad) || bad.Path != path || bad.What != "disk" || bad.Err.Error() != want && bad.Err.Error() != "it is "+want {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if f, err := Open(t.Context(), &profiles.Profile{Path: dir + "/vm.toml", Boot: profiles.Boot{Kernel: file, Initrd: filepath.Join(dir, "none")}}, Options{}); f != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %+v, %v", f, err)
	}
	p := &profiles.Profile{Path: dir + "/vm.toml", Boot: profiles.Boot{Kernel: file, Initrd: file}, Disks: []profiles.Disk{{File: file}, {File: file, Snapshot: true}}}
	f, err := Open(t.Context(), p, Options{})
	if err != nil || f.Kernel == nil || f.Initrd == nil || len(f.Disks) != 2 {
		t.Fatalf("got %+v, %v", f, err)
	}
	f.Close()
	f.Close()
	for _, file := range []*os.File{f.Disks[0].File, f.Disks[1].File, f.Kernel, f.Initrd} {
		if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s is open after Close: %v", file.Name(), err)
		}
	}
}
