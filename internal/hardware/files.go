package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/profiles"
)

// Files are the files that a profile names, open.
type Files struct {
	Kernel, Initrd *os.File   // nil without one in the profile
	Disks          []*os.File // in the profile's order

	user   *asuser.User
	opened []*os.File
	infos  map[*os.File]fs.FileInfo // what the user saw
}

// Open opens everything that the profile names, with the rights of the user behind sudo;
// nil is the caller. The error is a *FileError, and then nothing stays open.
func Open(p *profiles.Profile, user *asuser.User) (*Files, error) {
	f := &Files{user: user, infos: map[*os.File]fs.FileInfo{}}
	if err := f.openAll(p); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close closes the files. A second call does nothing, nor does one without files.
func (f *Files) Close() {
	if f == nil {
		return
	}
	for _, file := range f.opened {
		file.Close()
	}
	f.opened, f.infos = nil, nil
}

func (f *Files) openAll(p *profiles.Profile) (err error) {
	if f.Kernel, err = f.open("kernel", p.Boot.Kernel, os.O_RDONLY); err != nil {
		return err
	}
	if f.Initrd, err = f.open("initrd", p.Boot.Initrd, os.O_RDONLY); err != nil {
		return err
	}
	for _, d := range p.Disks {
		flags := os.O_RDWR
		if d.ReadOnly || d.Snapshot {
			flags = os.O_RDONLY
		}
		disk, err := f.open("disk", d.File, flags)
		if err != nil {
			return err
		}
		f.Disks = append(f.Disks, disk)
	}
	return nil
}

// open opens a file or a block device; it returns nil for the path "". A FIFO would
// block, and QEMU's message about a directory is worse.
func (f *Files) open(what, path string, flags int) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	var file *os.File
	var st fs.FileInfo
	err := f.user.Do(func() (err error) {
		file, err = os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
		if err == nil {
			f.opened = append(f.opened, file)
			st, err = file.Stat() // root may not, where the file system is the user's own (FUSE)
		}
		return err
	})
	if err == nil && !st.Mode().IsRegular() && st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		err = errors.New("it is neither a file nor a block device")
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, &FileError{What: what, Path: path, Err: err}
	}
	f.infos[file] = st
	return file, nil
}

// stat returns what the user saw of a file when it was opened.
func (f *Files) stat(file *os.File) (fs.FileInfo, error) {
	if info, ok := f.infos[file]; ok {
		return info, nil
	}
	return file.Stat()
}

// FileError tells that a file which the profile names cannot be opened.
type FileError struct {
	What, Path string // "disk", "/home/u/a.qcow2"
	Err        error
}

// Error returns for example `open disk "/home/u/a.qcow2": no such file or directory`.
func (e *FileError) Error() string { return fmt.Sprintf("open %s %q: %v", e.What, e.Path, e.Err) }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Hint returns what the user can do about it, "" if the error says it all.
func (e *FileError) Hint() string {
	if errors.Is(e.Err, fs.ErrPermission) {
		return "the file is opened with your own rights, also under sudo: give yourself access to it"
	}
	return ""
}
