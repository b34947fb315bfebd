// Package volume makes files in memory of what a guest gets at its first boot: QEMU reads
// them by their descriptors, and nothing is on a disk. Nobody can change them any more, and
// they are gone with the last process that has them open.
package volume

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/firstboot/iso9660"
	"github.com/qnet-vm/qnet/internal/memfile"
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
		if f.Disk, err = memfile.New("first boot", bytes.NewReader(image)); err != nil {
			return f, err
		}
	}
	for _, c := range s.Credentials {
		file, err := memfile.New("credential", strings.NewReader(c))
		if err != nil {
			return f, err
		}
		f.SMBIOS = append(f.SMBIOS, file)
	}
	if s.Ignition != nil {
		f.Ignition, err = memfile.New("Ignition config", bytes.NewReader(s.Ignition))
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
