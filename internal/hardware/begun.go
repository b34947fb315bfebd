package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/firstboot/gather"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

// BegunDir is the directory, below that of images, of guests that were booted for others to
// begin from, see package warm.
const BegunDir = "warm"

// OnBase reports whether this run made the disk of the image on Options.Base: its guest
// has booted, and does not know yet that it is this VM.
func (f *Files) OnBase() bool { return f != nil && f.onBase }

// Settings are what qnet tells the guest at its first boot; ok is false for a guest that it tells
// nothing.
func (f *Files) Settings() (s firstboot.Settings, ok bool) {
	if f.told == nil {
		return s, false
	}
	return f.told.settings, true
}

// SharedSettings are those of several VMs of the profile, see gather.Shared.
func SharedSettings(p *profiles.Profile, image images.Local, o Options) (firstboot.Settings, error) {
	f := &Files{o: o, Image: image}
	return gather.Shared(f.request(p, nil, vmdir.Dir{}))
}

// begunBase has the disk begin from Options.Base.
func (f *Files) begunBase(w *want) error {
	image, err := f.o.store().Resolve(w.image)
	f.Image = images.Local{Path: f.o.Base.Path, Digest: f.o.Base.Digest, Name: image.Source(), User: image.User, Firmware: image.Firmware}
	w.Base.Path, w.Base.Digest = f.o.Base.Path, f.o.Base.Digest
	return err
}

// forgetUnnamed removes the disk of a guest that has not been told who it is. It was on no
// network, and no user has seen it.
func (f *Files) forgetUnnamed(list []want) error {
	if f.Kept == nil || !f.Kept.Record.Unnamed {
		return nil
	}
	for _, w := range list {
		if w.image == (profiles.Image{}) {
			continue
		}
		err := f.o.User.Do(func() error { return os.Remove(w.File) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("begin disk %q anew: %w", w.File, err)
		}
	}
	return nil
}

// openBelow opens what the base of the image's disk rests on, if it is a disk itself. That of a
// profile's own image is never followed: its maker must not choose which file a guest reads.
func (f *Files) openBelow(w *want, digests disks.Digests) error {
	if f.o.Images == "" || filepath.Dir(filepath.Dir(w.Base.Path)) != filepath.Join(f.o.Images, BegunDir) {
		return nil
	}
	pin, pinned, err := pinOf(f.o.User, w.Base.Path)
	if err != nil || !pinned {
		return err
	}
	cached, noImage := f.o.store().ByDigest(pin.Digest)
	if noImage == nil {
		pin.Path = cached.Path
	}
	below, err := f.open("base", pin.Path, os.O_RDONLY)
	if err != nil {
		return gone(f.o.User, *w, err)
	}
	if err := images.Hold(below); err != nil {
		return err
	}
	digest := pin.Digest
	err = f.o.User.Do(func() (err error) {
		switch {
		case noImage == nil && !digests.Unread:
			return digests.Trust(below, pin.Digest)
		case noImage != nil:
			digest, err = digests.Of(below)
		}
		return err
	})
	if err == nil && digest != "" && digest != pin.Digest {
		err = &disks.Error{
			File: w.File, Msg: fmt.Sprintf("the image %q below its base has changed since the first boot", pin.Path),
			Do: "put the image back as it was; or begin anew after: qnet rm", Err: disks.ErrOtherBase,
		}
	}
	f.Disks[w.i].Below = below
	f.below = append(f.below, vmdir.Base{Overlay: w.Base.Path, Path: pin.Path, Digest: pin.Digest})
	return err
}
