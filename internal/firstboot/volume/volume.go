// Package volume makes files in memory of what a guest gets at its first boot: QEMU reads
// them by their descriptors, and nothing is on a disk. Nobody can change them any more, and
// they are gone with the last process that has them open.
package volume

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/firstboot/iso9660"
)

// Files are what QEMU gets. Nil ones are not needed.
type Files struct {
	Disk     *os.File   // ISO 9660 volume
	SMBIOS   []*os.File // strings of SMBIOS type 11, one a file
	Ignition *os.File
}

// Make makes the files, owned by the caller's user, who is QEMU's.
func Make(s firstboot.Seed) (f Files, err error) {
	defer func() {
		if err != nil {
			f.Close() //nolint:errcheck // the first error counts
			f = Files{}
		}
	}()
	if len(s.Documents) > 0 {
		var list []iso9660.File
		for _, d := range s.Documents {
			list = append(list, iso9660.File{Name: d.Name, Data: []byte(d.Text)})
		}
		image, err := iso9660.Image(firstboot.Label, list)
		if err != nil {
			return f, err
		}
		if f.Disk, err = memory("first boot", image); err != nil {
			return f, err
		}
	}
	for _, c := range s.Credentials {
		file, err := memory("credential", []byte(c))
		if err != nil {
			return f, err
		}
		f.SMBIOS = append(f.SMBIOS, file)
	}
	if s.Ignition != nil {
		f.Ignition, err = memory("Ignition config", s.Ignition)
	}
	return f, err
}

// All returns those that there are.
func (f Files) All() []*os.File {
	return slices.DeleteFunc(append([]*os.File{f.Disk, f.Ignition}, f.SMBIOS...), func(file *os.File) bool { return file == nil })
}

// Close closes all of them.
func (f Files) Close() error {
	var errs []error
	for _, file := range f.All() {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// memory returns a sealed file in memory, open for reading alone: QEMU refuses a
// descriptor that could write where it only reads (fdset in util/osdep.c of QEMU). QEMU, which
// is another user where root runs it, opens some of them again by /proc/self/fd; others
// cannot look into that directory (proc(5)).
func memory(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make %s in memory: %w", name, err)
	}
	w := os.NewFile(uintptr(fd), name)
	defer w.Close()
	if err := unix.Fchmod(fd, 0o444); err != nil {
		return nil, fmt.Errorf("make %s in memory: %w", name, err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("make %s in memory: %w", name, err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(w.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	r, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s in memory: %w", name, err)
	}
	return os.NewFile(uintptr(r), name), nil
}
