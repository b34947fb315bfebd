package hardware

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// store is the user's cache of images.
func (o Options) store() images.Store {
	s := images.Store{Dir: o.Images, Config: o.Config, User: o.User}
	if o.Getenv != nil {
		s.Search = o.Getenv("PATH")
	}
	return s
}

// imageBase finds the base of the disk that is made of the profile's image: the one that the
// disk is pinned to, or, before it is made, what the image is now, which may have to be
// downloaded.
func (f *Files) imageBase(ctx context.Context, p *profiles.Profile, w *want) error {
	pinned, err := f.pinnedBase(w)
	if pinned || err != nil {
		return err
	}
	if f.onBase = f.o.Base.Path != ""; f.onBase {
		return f.begunBase(w)
	}
	f.Image, err = f.ensureImage(ctx, p)
	if err == nil {
		w.Base.Path, w.Base.Digest = f.Image.Path, f.Image.Digest
	}
	return err
}

// EnsureImage returns what the profile's image is now, which may have to be downloaded. The
// error may be one of MayReach's.
func EnsureImage(ctx context.Context, p *profiles.Profile, o Options) (local images.Local, err error) {
	f := &Files{o: o}
	if err := f.mayReach(p); err != nil {
		return local, err
	}
	return f.ensureImage(ctx, p)
}

func (f *Files) ensureImage(ctx context.Context, p *profiles.Profile) (local images.Local, err error) {
	o, store := f.o, f.o.store()
	store.MayRead = func(file *os.File) error { return f.reach.Check("image", p.Image.File, file) }
	image, err := store.Resolve(p.Image)
	if err != nil {
		return local, err
	}
	if o.Images != "" {
		if err := vmdir.MakeFor(o.Images, o.User); err != nil {
			return local, fmt.Errorf("make directory of images: %w", err)
		}
	}
	defer o.progress("")
	return store.Ensure(ctx, image, images.InWords(o.progress))
}

// pinnedBase finds the base that the disk is pinned to. It reports whether the disk is there.
func (f *Files) pinnedBase(w *want) (pinned bool, err error) {
	pin, pinned, err := pinOf(f.o.User, w.File)
	switch {
	case err != nil || !pinned:
		return false, err
	case pin.Image != w.Base.Image:
		return true, &disks.Error{
			File: w.File, Msg: fmt.Sprintf("it was made of image %s, and the profile says image %s", pin.Image, w.Base.Image),
			Do: fmt.Sprintf("say image = %q; or begin anew after: qnet rm %s", pin.Image, w.vm()),
		}
	}
	w.Base.Path, w.Base.Format = pin.Path, pin.Format
	f.Image = images.Local{Path: pin.Path, Digest: pin.Digest, Name: pin.Image}
	store := f.o.store()
	if image, err := store.Resolve(w.image); err == nil {
		f.Image.User, f.Image.Firmware = image.User, image.Firmware
	}
	if cached, err := store.ByDigest(pin.Digest); err == nil {
		f.Image = cached
		if f.o.User.Do(func() error { _, err := os.Stat(pin.Path); return err }) != nil {
			w.Base.Path = cached.Path // the cache was moved
		}
	}
	return true, nil
}

// vm is the VM in whose directory the disk that is made of its image is.
func (w want) vm() string { return filepath.Base(filepath.Dir(w.File)) }

// imageLook is imageBase without a download: it reports whether the base is known.
func (f *Files) imageLook(w *want) (known bool, err error) {
	if pinned, err := f.pinnedBase(w); pinned || err != nil {
		return pinned, err
	}
	if f.o.Base.Path != "" {
		return true, f.begunBase(w)
	}
	store := f.o.store()
	image, err := store.Resolve(w.image)
	if err != nil {
		return false, err
	}
	if w.image.File != "" {
		w.Base.Path = w.image.File
		return f.usedInPlace(w.image)
	}
	local, found, err := store.Find(image)
	if found {
		f.Image = local
		w.Base.Path, w.Base.Digest = local.Path, local.Digest
	}
	return found, err
}

// usedInPlace reports whether a file needs no conversion. The error is a *FileError, or says that
// it is no image.
func (f *Files) usedInPlace(image profiles.Image) (bool, error) {
	file, err := f.openNamed("image", "image", image.File, os.O_RDONLY)
	if err != nil {
		return false, err
	}
	_, found, err := qcow2.Read(file)
	if err == nil && !found {
		err = images.Plausible(file)
	}
	return found, err
}

// gone says more about a base that an overlay rests on and that is missing.
func gone(user *asuser.User, w want, err error) error {
	if _, pinned, _ := pinOf(user, w.File); !pinned || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	do := fmt.Sprintf("put %s back as it was; or remove %s, and what the guest has written, to begin anew", w.Base.Path, w.File)
	if named := w.image.Name != "" || w.image.URL != ""; named && filepath.Base(w.Base.Path) != imageDisk {
		do = fmt.Sprintf("qnet image pull %s brings it back while the same is published; or begin anew after: qnet rm %s", w.Base.Image, w.vm())
	}
	return &disks.Error{File: w.File, Msg: fmt.Sprintf("its base %s is gone, without which it cannot be read", w.Base.Path), Do: do, Err: err}
}
