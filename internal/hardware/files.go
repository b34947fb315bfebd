package hardware

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/virtiofs"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/firmware"
)

// Files are the files that a profile names, open.
type Files struct {
	Kernel, Initrd *os.File     // nil without one in the profile
	Disks          []Disk       // in the order of the function Disks
	Kept           *vmdir.Claim // the VM's lasting directory; nil for a VM that keeps nothing
	Image          images.Local // what the first disk is made of; zero for a VM without an image
	GDB            *os.File     // a socket that listens for gdb; the caller's; nil without one

	told      *told              // nil before Seed, and for a guest that qnet tells nothing
	uefi      *uefi              // nil with SeaBIOS, and before it is open
	found     *firmware.Firmware // of a plan
	tpm       *tpm               // nil without one
	folders   []virtiofs.Share   // in the profile's order
	virtiofsd string             // the program that serves them
	serving   []*virtiofs.Daemon // of the folders, while a run has them served
	onBase    bool               // this run makes the disk of the image on Options.Base
	below     []vmdir.Base       // what the bases rest on in their turn
	reach     *reachable.Folders // where the profile may reach

	o      Options
	opened []*os.File
	infos  map[*os.File]fs.FileInfo // what the user saw
}

// Open opens everything that the profile names, with the rights of the user behind sudo, and
// makes what the VM keeps. It may wait for a download. The error is one of MayReach's, a *FileError, a
// *reachable.Error, a *disks.Error, or says why something could not be made; then nothing stays open, and the VM's
// directory is free.
func Open(ctx context.Context, p *profiles.Profile, o Options) (*Files, error) {
	f := &Files{o: o, infos: map[*os.File]fs.FileInfo{}}
	if err := f.openAll(ctx, p); err != nil {
		f.Close()
		return nil, errors.Join(err, f.tpm.close(), f.Kept.Abandon())
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

// Release ends the TPM and gives up the VM's lasting directory, once QEMU has ended. A second call does
// nothing, nor does one without files.
func (f *Files) Release() error {
	if f == nil {
		return nil
	}
	return errors.Join(f.tpm.close(), f.Kept.Release())
}

// openPlain opens what a run only opens, once all that the profile names is where it may be.
func (f *Files) openPlain(p *profiles.Profile) (err error) {
	if err = f.mayReach(p); err != nil {
		return err
	}
	if f.Kernel, err = f.openNamed("kernel", "boot.kernel", p.Boot.Kernel, os.O_RDONLY); err == nil {
		f.Initrd, err = f.openNamed("initrd", "boot.initrd", p.Boot.Initrd, os.O_RDONLY)
	}
	if err == nil {
		err = f.openShares(p)
	}
	return err
}

func (f *Files) openAll(ctx context.Context, p *profiles.Profile) error {
	if err := f.openPlain(p); err != nil {
		return err
	}
	if err := f.take(p); err != nil {
		return err
	}
	if err := f.openFirmware(p); err != nil {
		return err
	}
	if err := f.openTPM(p); err != nil {
		return err
	}
	return f.openDisks(ctx, p)
}

// take holds the VM's lasting directory, if it has one.
func (f *Files) take(p *profiles.Profile) error {
	if !keeps(p) {
		return nil
	}
	kept, moved, err := vmdir.Take(f.o.VMs, p, f.o.User)
	if moved != "" {
		f.o.warn(fmt.Sprintf("VM %q: its profile was %s, which is gone; it is %s now", p.Name, moved, p.Path))
	}
	f.Kept = kept
	return err
}

// open opens a file or a block device; it returns nil for the path "". A FIFO would
// block, a terminal would become the supervisor's own, and QEMU's message about a directory is worse.
func (f *Files) open(what, path string, flags int) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	var file *os.File
	var st fs.FileInfo
	err := f.o.User.Do(func() (err error) {
		file, err = os.OpenFile(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
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
