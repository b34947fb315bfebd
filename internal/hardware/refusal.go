package hardware

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// Refusal returns the error by which a run of the profile would be refused now for the
// sake of its files: a *FileError, a *reachable.Error, a *disks.Error, a *machine.ConfigError, a
// *firmware.VarsError, a *program.Lack, or one that is imagelock.ErrInUse. It opens the files as a run does, with the rights of the user behind
// sudo, and changes nothing. It reads no base: one that was changed may pass.
func Refusal(p *profiles.Profile, o Options) error {
	f := &Files{o: o, infos: map[*os.File]fs.FileInfo{}}
	defer f.Close()
	err := f.openPlain(p)
	if err == nil {
		_, err = f.look(p)
	}
	if err != nil {
		return err
	}
	if _, err := PlanFirmware(p, o); err != nil {
		return err
	}
	c := Config(p, nil, f, nil)
	c.NICs = nil // they have no taps
	c.Disks = nil
	for i, d := range Disks(p) {
		if f.Disks[i].File != nil && (f.Disks[i].Base != nil || d.Base == "") { // the others are made by a run
			c.Disks = append(c.Disks, machineDisk(i, d, f.Disks[i]))
		}
	}
	if _, err = machine.Check(c); err == nil {
		_, err = PlanSeed(p, o, nil)
	}
	return err
}

// BadFiles returns all that is wrong with the profile's files themselves: a
// *machine.ConfigError, a *disks.Error, for each share a *FileError or a *reachable.Error, and
// for each file that [guest] names a *firstboot.Mistake; an image that is missing, unknown or
// none. Kernels and disks that are missing, or in use, may pass: they are none of it. It is nil
// without a profile.
func BadFiles(p *profiles.Profile, o Options) error {
	if p == nil {
		return nil
	}
	f := &Files{o: o}
	defer f.Close()
	outside := f.mayReach(p)
	_, seed := PlanSeed(p, o, nil)
	if !is[*firstboot.Mistake](seed) {
		seed = nil
	}
	rest := *p // Refusal stops at the first
	rest.Shares, rest.Guest = nil, nil
	err := Refusal(&rest, o)
	if !isMistake(err) {
		err = nil
	}
	return errors.Join(outside, reachable.Others(f.openFolders(p)), reachable.Others(seed), reachable.Others(err))
}

// isMistake reports whether an error of Refusal is about what the profile says, and not about
// what there is on the host just now.
func isMistake(err error) bool {
	file, missing := errors.AsType[*FileError](err)
	switch {
	case is[*machine.ConfigError](err), is[*disks.Error](err), is[*reachable.Error](err), is[*images.UnknownError](err):
		return true
	case missing:
		return file.What == "image"
	}
	return errors.Is(err, images.ErrNoDisk)
}

// is reports whether an error has one of the type E in it.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// Standing opens the disks of a VM that does not run, as they are, for Config. It makes none,
// enlarges none, reads no base, and starts nothing. The error is one of Refusal's, or says which
// disk there is not.
func Standing(p *profiles.Profile, o Options) (*Files, error) {
	f := &Files{o: o, infos: map[*os.File]fs.FileInfo{}}
	plans, err := f.look(p)
	for _, d := range plans {
		if err == nil && d.Missing {
			err = &disks.Error{File: d.File, Msg: "there is none yet: the VM never ran", Do: "run it first", Err: fs.ErrNotExist}
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// DiskPlan is a disk that a run makes, or that rests on a base.
type DiskPlan struct {
	File    string `json:"file"`
	Size    int64  `json:"size,omitempty"`    // bytes; 0 while the base is not here
	Missing bool   `json:"missing,omitempty"` // a run makes it
	Grows   bool   `json:"grows,omitempty"`   // a run enlarges it to Size
	Image   string `json:"image,omitempty"`   // that the base is
	Base    string `json:"base,omitempty"`    // path; "" while the image is not here
	Digest  string `json:"digest,omitempty"`  // of the base, as far as it is known
	Below   string `json:"below,omitempty"`   // path of what the base rests on in its turn
}

// PlanDisks tells what a run would do about the disks that qnet makes. It changes nothing. The
// error is one of Refusal's.
func PlanDisks(p *profiles.Profile, o Options) ([]DiskPlan, error) {
	f := &Files{o: o, infos: map[*os.File]fs.FileInfo{}}
	defer f.Close()
	return f.look(p)
}

// look opens those disks that are there, with what they rest on, and makes none.
func (f *Files) look(p *profiles.Profile) ([]DiskPlan, error) {
	var list []DiskPlan
	if err := f.mayReach(p); err != nil {
		return nil, err
	}
	f.Disks = make([]Disk, len(Disks(p)))
	dir, err := vmdir.New(f.o.VMs, p.Name)
	if err != nil && keeps(p) {
		return nil, err
	}
	for _, w := range wants(p, dir) {
		plan, err := f.lookAt(p, w)
		if err != nil {
			return list, err
		}
		list = append(list, plan)
		if !plan.Missing {
			if f.Disks[w.i].File, err = f.openWanted(p, w); err != nil {
				return list, err
			}
		}
	}
	for i, d := range Disks(p) {
		if made(d) {
			continue
		}
		if f.Disks[i].File, err = f.openNamed("disk", diskKey(p, i, ".file"), d.File, flagsOf(d)); err != nil {
			return list, err
		}
	}
	return list, nil
}

// lookAt looks at one disk that qnet may make.
func (f *Files) lookAt(p *profiles.Profile, w want) (DiskPlan, error) {
	digests := disks.Digests{Ledger: f.ledger(), Unread: true}
	if w.image != (profiles.Image{}) {
		if known, err := f.imageLook(&w); err != nil || !known {
			return DiskPlan{File: w.File, Size: w.Size, Missing: true, Image: w.Base.Image}, err
		}
	}
	var err error
	if f.Disks[w.i].Base, err = f.openBase(p, w); err != nil {
		return DiskPlan{}, gone(f.o.User, w, err)
	}
	if w.image != (profiles.Image{}) {
		if err := f.openBelow(&w, digests); err != nil {
			return DiskPlan{}, err
		}
	}
	var found disks.Found
	err = f.o.User.Do(func() (err error) {
		found, err = w.Look(f.Disks[w.i].Base, digests)
		return err
	})
	plan := DiskPlan{w.File, found.Size, found.Missing, found.Grows, w.Base.Image, w.Base.Path, found.Pin.Digest, ""}
	if below := f.Disks[w.i].Below; below != nil {
		plan.Below = below.Name()
	}
	return plan, err
}

// pinOf is disks.PinOf with the rights of a user.
func pinOf(user *asuser.User, path string) (pin disks.Pin, pinned bool, err error) {
	err = user.Do(func() (err error) {
		pin, pinned, err = disks.PinOf(path)
		return err
	})
	return pin, pinned, err
}

// String returns for example "/v/disk.qcow2: made by a run, 20 GiB, an overlay on image debian-12".
func (d DiskPlan) String() string {
	words := []string{}
	switch {
	case d.Missing:
		words = append(words, "made by a run")
	case d.Grows:
		words = append(words, "enlarged by a run")
	}
	if d.Size > 0 {
		words = append(words, disks.Size(d.Size))
	}
	on := d.Base
	if d.Image != "" && d.Base != d.Image {
		on = strings.TrimSpace("image " + d.Image + " " + d.Base)
	}
	if on != "" {
		words = append(words, "an overlay on "+on)
	}
	if d.Digest != "" {
		words = append(words, "of "+d.Digest)
	}
	if d.Below != "" {
		words = append(words, "which is one on "+d.Below)
	}
	return d.File + ": " + strings.Join(words, ", ")
}
