package hardware

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/firstboot/gather"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// Disks lists the disks of a profile's machine in their order: the one that is made of its
// image comes first. That has no base yet: see Files.
func Disks(p *profiles.Profile) []profiles.Disk {
	if p.Image == (profiles.Image{}) {
		return p.Disks
	}
	first := profiles.Disk{Format: disks.Qcow2, Type: profiles.HardDisk, Bus: profiles.VirtIO, Size: p.Size, Base: p.Image.String(), BaseFormat: disks.Qcow2}
	return append([]profiles.Disk{first}, p.Disks...)
}

// Disk is a disk of the machine, open.
type Disk struct {
	File  *os.File
	Base  *os.File // what File is an overlay on; nil for a disk that is none
	Below *os.File // what Base is an overlay on in its turn; nil if it is none
}

// machineDisk returns the i-th disk as QEMU gets it. An open one of zero is one that is
// planned.
func machineDisk(i int, d profiles.Disk, open Disk) machine.Disk {
	m := machine.Disk{
		File: cmp.Or(open.File, planned), Format: d.Format, Snapshot: d.Snapshot, ReadOnly: d.ReadOnly,
		Bus: string(d.Bus), CDROM: d.Type == profiles.CDROM,
	}
	if d.Base != "" {
		m.Backing, m.BackingFormat, m.Below = cmp.Or(open.Base, planned), d.BaseFormat, open.Below
	}
	if d.Bus != profiles.VirtIO && d.Bus != "" || made(d) {
		m.Serial = fmt.Sprintf("qnet-disk%d", i)
	}
	return m
}

// made reports whether qnet makes the disk when it is missing.
func made(d profiles.Disk) bool { return d.Create || d.Base != "" }

// keeps reports whether the VM has files of its own that stay.
func keeps(p *profiles.Profile) bool {
	for _, d := range Disks(p) {
		if d.Base != "" {
			return true
		}
	}
	return hasUEFI(p) || p.TPM || gather.Wanted(p)
}

// imageDisk is the name of the disk that is made of the profile's image.
const imageDisk = "disk.qcow2"

// want is a disk that qnet may make.
type want struct {
	disks.Disk
	image profiles.Image // zero for a disk that is not made of the profile's image
	i     int            // its place in Disks
}

// wants lists the disks that qnet may make, with the files that they are.
func wants(p *profiles.Profile, dir vmdir.Dir) []want {
	var list []want
	taken := map[string]bool{}
	for i, d := range Disks(p) {
		if !made(d) {
			continue
		}
		w := want{Disk: disks.Disk{File: d.File, Format: d.Format, Size: d.Size, Base: disks.Pin{Path: d.Base, Format: d.BaseFormat}}, i: i}
		if i == 0 && p.Image != (profiles.Image{}) {
			w.image, w.File = p.Image, dir.File(imageDisk)
			w.Base = disks.Pin{Image: p.Image.String(), Format: disks.Qcow2}
		}
		if w.File == "" {
			w.File = dir.File(disks.OverlayName(d.Base, taken))
		}
		list = append(list, w)
	}
	return list
}

// openDisks makes the disks that are missing, and opens all.
func (f *Files) openDisks(ctx context.Context, p *profiles.Profile) error {
	f.Disks = make([]Disk, len(Disks(p)))
	if err := f.makeDisks(ctx, p); err != nil {
		return err
	}
	for i, d := range Disks(p) {
		if f.Disks[i].File != nil {
			continue
		}
		var err error
		if f.Disks[i].File, err = f.openNamed("disk", diskKey(p, i, ".file"), d.File, flagsOf(d)); err != nil {
			return err
		}
	}
	return nil
}

// diskKey is the profile's key, ".file" or ".base", of a disk by its index in the function Disks. It is
// not the one that is made of the image.
func diskKey(p *profiles.Profile, i int, rest string) string {
	return reachable.Key("disk", i-len(Disks(p))+len(p.Disks), rest)
}

func flagsOf(d profiles.Disk) int {
	if d.ReadOnly || d.Snapshot {
		return os.O_RDONLY
	}
	return os.O_RDWR
}

// makeDisks makes what is missing of the disks that qnet may make, and opens those. What they
// rest on is noted before one is made, so that no base is removed meanwhile.
func (f *Files) makeDisks(ctx context.Context, p *profiles.Profile) error {
	var dir vmdir.Dir
	if f.Kept != nil {
		dir = f.Kept.Dir
	}
	list := wants(p, dir)
	if err := f.forgetUnnamed(list); err != nil {
		return err
	}
	digests := f.digests(ctx)
	var bases []vmdir.Base
	for i := range list {
		pin, err := f.base(ctx, p, &list[i], digests)
		if err != nil {
			return err
		}
		if pin.Path != "" {
			bases = append(bases, vmdir.Base{Overlay: relative(dir, list[i].File), Path: pin.Path, Digest: pin.Digest})
		}
		bases = append(bases, f.below...)
	}
	if f.Kept != nil {
		if err := f.Kept.Update(func(r *vmdir.Record) { r.Bases, r.Unnamed = bases, f.onBase }); err != nil {
			return err
		}
	}
	for _, w := range list {
		err := f.o.User.Do(func() error {
			_, err := w.Ready(f.Disks[w.i].Base, digests)
			return err
		})
		if err == nil {
			f.Disks[w.i].File, err = f.openWanted(p, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openWanted opens a disk that qnet made.
func (f *Files) openWanted(p *profiles.Profile, w want) (*os.File, error) {
	if Disks(p)[w.i].File == "" { // it is among the VM's own files
		return f.open("disk", w.File, flagsOf(Disks(p)[w.i]))
	}
	return f.openNamed("disk", diskKey(p, w.i, ".file"), w.File, flagsOf(Disks(p)[w.i]))
}

// openBase opens what a disk rests on. The cache, and not the profile, says which file an image
// of the catalog is.
func (f *Files) openBase(p *profiles.Profile, w want) (*os.File, error) {
	switch {
	case w.image == (profiles.Image{}):
		return f.openNamed("base", diskKey(p, w.i, ".base"), w.Base.Path, os.O_RDONLY)
	case w.image.File != "":
		return f.openNamed("base", "image", w.Base.Path, os.O_RDONLY)
	}
	return f.open("base", w.Base.Path, os.O_RDONLY)
}

// relative returns how the record names a VM's file.
func relative(dir vmdir.Dir, file string) string {
	if filepath.Dir(file) == dir.Path() {
		return filepath.Base(file)
	}
	return file
}

// base opens what the disk rests on, and looks whether the disk can be used on it. It returns
// what the disk is pinned to, or will be.
func (f *Files) base(ctx context.Context, p *profiles.Profile, w *want, digests disks.Digests) (disks.Pin, error) {
	if w.image != (profiles.Image{}) {
		if err := f.imageBase(ctx, p, w); err != nil {
			return disks.Pin{}, err
		}
	}
	var err error
	if f.Disks[w.i].Base, err = f.openBase(p, *w); err != nil {
		return disks.Pin{}, gone(f.o.User, *w, err)
	}
	if w.image != (profiles.Image{}) {
		if err := images.Hold(f.Disks[w.i].Base); err != nil {
			return disks.Pin{}, err
		}
		if err := f.openBelow(w, digests); err != nil {
			return disks.Pin{}, err
		}
	}
	var found disks.Found
	err = f.o.User.Do(func() error {
		if w.Base.Digest != "" {
			if err := digests.Trust(f.Disks[w.i].Base, w.Base.Digest); err != nil {
				return err
			}
		}
		found, err = w.Look(f.Disks[w.i].Base, digests)
		return err
	})
	return found.Pin, err
}

// digests returns what finds the digests of bases for this user.
func (f *Files) digests(ctx context.Context) disks.Digests {
	reads := func(path string) { f.o.progress(fmt.Sprintf("base %s to be read", path)) }
	return disks.Digests{Ledger: f.ledger(), Context: ctx, Reads: reads}
}

// ledger is the file that remembers the digests of bases, "" without a place for it.
func (f *Files) ledger() string {
	if f.o.Ledger != "" || f.o.VMs == "" {
		return f.o.Ledger
	}
	return LedgerOf(f.o.VMs)
}

// LedgerOf returns the file that remembers the digests of bases, in a directory of VMs.
func LedgerOf(vms string) string { return filepath.Join(vms, "digests.json") }
