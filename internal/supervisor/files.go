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

// opener opens the profile's files with the caller's rights, and remembers them.
type opener struct {
	user  *asuser.User
	files []*os.File
}

func (o *opener) close() {
	for _, f := range o.files {
		f.Close()
	}
	o.files = nil
}

// open returns nil for "". Only files and block devices are opened: a FIFO
// would block, a directory gives a worse message later.
func (o *opener) open(what, path string, flags int) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	var f *os.File
	err := o.user.Do(func() (err error) {
		f, err = os.OpenFile(path, flags|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, &FileError{What: what, Path: path, Err: err}
	}
	o.files = append(o.files, f)
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() && st.Mode()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
		err = errors.New("it is neither a file nor a block device")
	}
	if err != nil {
		return nil, &FileError{What: what, Path: path, Err: err}
	}
	return f, nil
}

// FileError is about a file the profile names.
type FileError struct {
	What, Path string // "disk", "/home/u/a.qcow2"
	Err        error
}

// Error words it `open disk "/home/u/a.qcow2": no such file or directory`.
func (e *FileError) Error() string { return fmt.Sprintf("open %s %q: %v", e.What, e.Path, e.Err) }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// config opens everything the profile names. NICs come later.
func (o *opener) config(p *profiles.Profile, binary string, extra []string) (qemu.Config, error) {
	c := qemu.Config{
		Binary: binary, Name: p.Name, Memory: p.Memory, CPUs: p.CPUs, Accel: string(p.Accel), CPU: p.CPU,
		Machine: p.Machine, Cmdline: p.Boot.Cmdline, Extra: extra,
	}
	var err error
	if c.Kernel, err = o.open("kernel", p.Boot.Kernel, os.O_RDONLY); err != nil {
		return c, err
	}
	if c.Initrd, err = o.open("initrd", p.Boot.Initrd, os.O_RDONLY); err != nil {
		return c, err
	}
	for _, d := range p.Disks {
		flags := os.O_RDWR
		if d.ReadOnly || d.Snapshot {
			flags = os.O_RDONLY
		}
		f, err := o.open("disk", d.File, flags)
		if err != nil {
			return c, err
		}
		c.Disks = append(c.Disks, qemu.Disk{File: f, Format: d.Format, Snapshot: d.Snapshot, ReadOnly: d.ReadOnly})
	}
	return c, nil
}

// Credential is whom QEMU runs as: the user behind sudo; nobody where root
// called; the caller otherwise. The first two get /dev/kvm's group.
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

// kvmGroup is the group that may use /dev/kvm, if there is one.
func kvmGroup() []uint32 {
	var st unix.Stat_t
	if unix.Stat("/dev/kvm", &st) != nil || st.Gid == 0 {
		return nil
	}
	return []uint32{st.Gid}
}
