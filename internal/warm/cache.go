package warm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

const (
	diskFile   = "disk.qcow2"
	recordFile = "warm.json"
	prefix     = "warm-"
)

// NameOf returns the name of the VM that is booted for those with the key.
func NameOf(key string) string { return prefix + key }

// Cache is where the booted guests of a user are kept.
type Cache struct {
	Images string       // place.Places.Images
	User   *asuser.User // whose files they are; nil for the caller's
}

// Record says what a booted guest is.
type Record struct {
	Image       string    `json:"image"`        // as profiles.Image.String
	ImageDigest string    `json:"image_digest"` // of what its disk rests on
	Profile     string    `json:"profile"`      // path of the one that it was booted by
	Digest      string    `json:"digest"`       // of its disk's file, as in disks.Pin
	Disk        int64     `json:"disk"`         // bytes of that file
	Modified    int64     `json:"modified"`     // of that file, nanoseconds since 1970
	Memory      int64     `json:"memory"`       // bytes of its memory's file
	Made        time.Time `json:"made"`
	Seconds     int       `json:"seconds"` // that its boot took
}

// State is a booted guest that VMs can begin from.
type State struct {
	Record
	Name  string      `json:"name"` // of the VM that it was
	Place saved.Place `json:"-"`    // of its memory
}

// Bytes is what the state takes on the host's disk.
func (s State) Bytes() int64 { return s.Disk + s.Memory }

// Base is what the disk of a clone begins from.
func (s State) Base() hardware.Base {
	return hardware.Base{Path: s.Place.Dir.File(diskFile), Digest: s.Digest}
}

func (c Cache) kept() string { return filepath.Join(c.Images, hardware.BegunDir) }

// Boots is the directory of VMs in which one is booted for others.
func (c Cache) Boots() string { return filepath.Join(c.Images, hardware.BegunDir+".new") }

// Find returns the booted guest with the key. The error wraps fs.ErrNotExist if there is none.
func (c Cache) Find(key string) (s State, err error) {
	err = c.User.Do(func() error {
		s, err = c.load(NameOf(key))
		return err
	})
	return s, err
}

func (c Cache) load(name string) (s State, err error) {
	dir, err := vmdir.New(c.kept(), name)
	if err != nil {
		return s, err
	}
	b, err := os.ReadFile(dir.File(recordFile))
	if err == nil {
		err = json.Unmarshal(b, &s.Record)
	}
	if err != nil {
		return s, fmt.Errorf("find booted guest: %w", err)
	}
	s.Name, s.Place = name, saved.Place{Dir: dir, User: c.User}
	info, err := os.Stat(dir.File(diskFile))
	if err == nil && (info.Size() != s.Disk || info.ModTime().UnixNano() != s.Modified) {
		err = fmt.Errorf("use booted guest: the file %s was changed since", dir.File(diskFile))
	}
	return s, err
}

// List returns all booted guests, by name.
func (c Cache) List() (list []State, err error) {
	err = c.User.Do(func() error {
		dirs, err := vmdir.List(c.kept())
		for _, d := range dirs {
			if s, err := c.load(d.Name()); err == nil {
				list = append(list, s)
			}
		}
		return err
	})
	return list, err
}

// Lock takes the lock for booting the guest with the key; waits is called if another process
// has it.
func (c Cache) Lock(ctx context.Context, key string, waits func()) (lock *lockfile.Lock, err error) {
	err = c.User.Do(func() error {
		path := filepath.Join(c.Images, "locks", NameOf(key))
		if lock, err = lockfile.Try(path); errors.Is(err, lockfile.ErrHeld) {
			waits()
			lock, err = lockfile.Wait(ctx, path)
		}
		return err
	})
	return lock, err
}

// margin is what a first boot writes to the disk, at a guess, in bytes: packages may be more.
const margin = 512 << 20

// RoomError tells that the disk has no room for a booted guest.
type RoomError struct {
	Dir         string
	Needs, Free int64 // bytes
}

// Error names both sizes.
func (e *RoomError) Error() string {
	return fmt.Sprintf("keep a booted guest: it takes up to %s in %s, which has %s free", disks.Size(e.Needs), e.Dir, disks.Size(e.Free))
}

// Hint says what to do.
func (e *RoomError) Hint() string {
	return "qnet image prune removes images and booted guests that no VM uses"
}

// Needs is the room on the host's disk, in bytes, that a booted guest of the profile is expected
// to take at most: its memory, and what the first boot writes.
func Needs(p *profiles.Profile) int64 { return p.Memory + margin }

// Begin makes room for the boot of the guest with the key, whose lock the caller holds: what
// came of an earlier try is removed. The error may be a *RoomError.
func (c Cache) Begin(p *profiles.Profile, key string) error {
	if err := errors.Join(vmdir.MakeFor(c.kept(), c.User), vmdir.MakeFor(c.Boots(), c.User)); err != nil {
		return err
	}
	return c.User.Do(func() error {
		if err := remove(c.Boots(), NameOf(key)); err != nil {
			return err
		}
		var st unix.Statfs_t
		if err := unix.Statfs(c.Images, &st); err != nil {
			return &os.PathError{Op: "look at the file system of", Path: c.Images, Err: err}
		}
		if free := int64(st.Bavail) * st.Bsize; free < Needs(p) {
			return &RoomError{c.Images, Needs(p), free}
		}
		return nil
	})
}

// Drop removes what came of the boot of a guest that is not kept.
func (c Cache) Drop(key string) error {
	return c.User.Do(func() error { return remove(c.Boots(), NameOf(key)) })
}

// Keep keeps the guest with the key, which was booted and suspended in Boots. The caller holds
// its lock.
func (c Cache) Keep(key string, r Record) error {
	return c.User.Do(func() error {
		dir, err := vmdir.New(c.Boots(), NameOf(key))
		if err == nil {
			err = c.fill(dir, r)
		}
		if err == nil {
			err = failpoint.Hit("warm is about to keep")
		}
		if err == nil {
			err = os.Rename(dir.Path(), filepath.Join(c.kept(), NameOf(key)))
		}
		if err == nil {
			err = errors.Join(atomicfile.SyncDir(c.kept()), failpoint.Hit("warm did keep"))
		}
		if err != nil {
			return fmt.Errorf("keep a booted guest: %w", err)
		}
		return nil
	})
}

// fill makes the files read-only, notes what they are, and has all on the disk. The keys that
// the guest had as a VM of its own go: no clone has them. So do the variables of UEFI: they are
// in its memory, too, and QEMU writes them to a clone's own file from there.
func (c Cache) fill(dir vmdir.Dir, r Record) error {
	for _, name := range []string{"hostkeys", "seed.json", hardware.VarsName(profiles.UEFI), hardware.VarsName(profiles.UEFISecure)} {
		if err := remove(dir.Path(), name); err != nil {
			return err
		}
	}
	memory, ok, err := saved.Place{Dir: dir}.Load()
	if err == nil && !ok {
		err = errors.New("its memory was not saved")
	}
	if err != nil {
		return err
	}
	f, err := os.Open(dir.File(diskFile))
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync()); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	record, err := dir.Load()
	if err != nil {
		return err
	}
	for _, base := range record.Bases {
		r.ImageDigest = base.Digest
	}
	r.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	r.Disk, r.Modified, r.Memory, r.Made = info.Size(), info.ModTime().UnixNano(), memory.Bytes, time.Now().UTC().Truncate(time.Second)
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(atomicfile.Write(dir.File(recordFile), append(b, '\n')), atomicfile.SyncDir(dir.Path()))
}

// Remove removes a booted guest, unless VMs rest on it. The error is then an *images.UsedError
// or an *images.HeldError.
func (c Cache) Remove(s State, inUse images.InUse) error {
	if vms := inUse(s.Digest); len(vms) > 0 {
		return &images.UsedError{Name: s.Name, VMs: vms}
	}
	return c.User.Do(func() error {
		disk, err := images.Seize(s.Base().Path, s.Name)
		if err != nil {
			return err
		}
		defer disk.Close()
		lock, err := lockfile.Try(filepath.Join(c.Images, "locks", s.Name))
		if err != nil {
			return &images.HeldError{Name: s.Name}
		}
		// Without its name in warm no run finds it.
		err = errors.Join(remove(c.Boots(), s.Name), os.Rename(s.Place.Dir.Path(), filepath.Join(c.Boots(), s.Name)), remove(c.Boots(), s.Name))
		return errors.Join(err, lock.Release())
	})
}

// Prune removes the booted guests on which no VM rests, and what is left of boots that were not
// ended. It returns those that it removed.
func (c Cache) Prune(inUse images.InUse) (gone []State, err error) {
	list, err := c.List()
	errs := []error{err}
	for _, s := range list {
		err := c.Remove(s, inUse)
		switch {
		case err == nil:
			gone = append(gone, s)
		case !used(err):
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.User.Do(c.sweep))
	return gone, errors.Join(errs...)
}

// used reports whether an error says that VMs need what was to be removed.
func used(err error) bool {
	_, rests := errors.AsType[*images.UsedError](err)
	_, held := errors.AsType[*images.HeldError](err)
	return rests || held
}

func (c Cache) sweep() error {
	entries, err := os.ReadDir(c.Boots())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		lock, err := lockfile.Try(filepath.Join(c.Images, "locks", e.Name()))
		if err != nil {
			continue // it boots
		}
		errs = append(errs, remove(c.Boots(), e.Name()), lock.Release())
	}
	return errors.Join(errs...)
}

// remove removes what a directory has under a name. It follows no symbolic link.
func remove(dir, name string) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(name), root.Close())
}
