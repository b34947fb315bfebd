package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// opener opens the profile's files with the rights of the user behind sudo, and keeps
// them until close.
type opener struct {
	user  *asuser.User
	files []*os.File
	infos map[*os.File]fs.FileInfo
}

func (o *opener) close() {
	for _, f := range o.files {
		f.Close()
	}
	o.files, o.infos = nil, nil
}

// open opens a file or a block device; it returns nil for the path "". A FIFO would
// block, and QEMU's message about a directory is worse.
func (o *opener) open(what, path string, flags int) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	var f *os.File
	var st fs.FileInfo
	err := o.user.Do(func() (err error) {
		f, err = os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
		if err == nil {
			o.files = append(o.files, f)
			st, err = f.Stat() // root may not, where the file system is the user's own (FUSE)
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
	if o.infos == nil {
		o.infos = map[*os.File]fs.FileInfo{}
	}
	o.infos[f] = st
	return f, nil
}

// stat returns what the user saw of a file when it was opened.
func (o *opener) stat(f *os.File) (fs.FileInfo, error) {
	if info, ok := o.infos[f]; ok {
		return info, nil
	}
	return f.Stat()
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

// openAll opens everything that the profile names.
func (o *opener) openAll(p *profiles.Profile) (f Files, err error) {
	if f.Kernel, err = o.open("kernel", p.Boot.Kernel, os.O_RDONLY); err != nil {
		return f, err
	}
	if f.Initrd, err = o.open("initrd", p.Boot.Initrd, os.O_RDONLY); err != nil {
		return f, err
	}
	for _, d := range p.Disks {
		flags := os.O_RDWR
		if d.ReadOnly || d.Snapshot {
			flags = os.O_RDONLY
		}
		disk, err := o.open("disk", d.File, flags)
		if err != nil {
			return f, err
		}
		f.Disks = append(f.Disks, disk)
	}
	return f, nil
}

// Credential returns the user that QEMU runs as: u, the user behind sudo; if there is
// none, "nobody" for root, and nil, the caller, for others. Both u and "nobody" get
// the group of /dev/kvm.
func Credential(u *asuser.User) *qemu.Credential {
	const nobody = 65534
	var c *qemu.Credential
	switch {
	case u != nil:
		c = &qemu.Credential{UID: u.UID, GID: u.GID, Groups: append([]uint32{}, u.Groups...)}
	case os.Geteuid() == 0:
		c = &qemu.Credential{UID: nobody, GID: nobody}
	default:
		return nil
	}
	c.Groups = append(c.Groups, kvmGroup()...)
	return c
}

// kvmGroup returns the group that may use /dev/kvm, if there is one.
func kvmGroup() []uint32 {
	var st unix.Stat_t
	if unix.Stat("/dev/kvm", &st) != nil || st.Gid == 0 {
		return nil
	}
	return []uint32{st.Gid}
}
