package vmdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/profiles"
)

// ErrInUse is wrapped by the error for a VM whose files another qnet uses.
var ErrInUse = errors.New("the VM runs, or another qnet changes its files")

// Claim is a VM's directory that this process holds until Release. Its methods have the
// rights of the user that Take was given.
type Claim struct {
	Dir
	Record Record // as it is on the disk; changed by Update
	First  bool   // there was no record: the VM never ran

	user *asuser.User
	lock *lockfile.Lock
	was  Record // before this run
}

// Hold makes the VM's directory where it is missing, and locks it. The error wraps ErrInUse,
// or is a *rundir.Unusable.
func (d Dir) Hold(user *asuser.User) (*Claim, error) {
	c := &Claim{Dir: d, user: user}
	if err := d.MakeFor(user); err != nil {
		return nil, &rundir.Unusable{What: "directory of VMs", Dir: d.vms, Err: err}
	}
	err := user.Do(func() (err error) {
		if c.lock, err = d.Lock(); err != nil {
			return err
		}
		c.Record, err = d.Load()
		if c.First = errors.Is(err, fs.ErrNotExist); c.First {
			return nil
		}
		return err
	})
	switch {
	case errors.Is(err, lockfile.ErrHeld):
		return nil, fmt.Errorf("use files of VM %q: %w", d.name, ErrInUse)
	case err != nil && c.lock == nil:
		return nil, &rundir.Unusable{What: "directory of VMs", Dir: d.vms, Err: err}
	case err != nil:
		return nil, errors.Join(err, c.Release())
	}
	return c, nil
}

// MakeFor makes the directory with the user's rights, and that of all VMs as the function
// MakeFor does.
func (d Dir) MakeFor(user *asuser.User) error {
	if err := MakeFor(d.vms, user); err != nil {
		return err
	}
	return user.Do(d.Make)
}

// MakeFor makes a directory of a user's own, with the user's rights. Where the user may not, as
// in a state directory that root was told to use, root makes it for the user.
func MakeFor(path string, user *asuser.User) error {
	err := user.Do(func() error { return os.MkdirAll(path, 0o700) })
	if user == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if _, there := os.Lstat(path); there == nil {
		return err
	}
	return asuser.AsRoot(func() error {
		// Those above it are no user's own, and the user has to pass.
		if err := errors.Join(perm.MkdirAll(filepath.Dir(path), perm.Dir()), perm.MkdirAll(path, 0o700)); err != nil {
			return err
		}
		dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0) // not a link that took its place
		if err != nil {
			return err
		}
		return errors.Join(dir.Chown(int(user.UID), int(user.GID)), dir.Close())
	})
}

// Take holds the directory of the profile's VM for a run, and notes the run in its record. It
// refuses a VM that is another profile's: two would write one disk by turns. moved is the path
// that the profile had when the VM ran last, "" if it has not changed.
func Take(vms string, p *profiles.Profile, user *asuser.User) (c *Claim, moved string, err error) {
	d, err := New(vms, p.Name)
	if err != nil {
		return nil, "", err
	}
	if c, err = d.Hold(user); err != nil {
		return nil, "", err
	}
	c.was = c.Record
	if err = user.Do(func() (err error) { moved, err = c.belongs(p); return err }); err == nil {
		err = c.Update(func(r *Record) {
			r.Profile, r.Image, r.LastRun = d.ProfileOf(p), p.Image.String(), time.Now().UTC().Truncate(time.Second)
			if r.Allowed = p.Allowed; r.Profile == "" { // one's own may name everything
				r.Allowed = nil
			}
		})
	}
	if err != nil {
		return nil, "", errors.Join(err, c.Release())
	}
	return c, moved, nil
}

// ProfileOf returns how a record names a profile: "" is the VM's own, in its directory.
func (d Dir) ProfileOf(p *profiles.Profile) string {
	if p.Path == d.OwnProfile() {
		return ""
	}
	return p.Path
}

// OwnProfile is the path of the profile of a VM that is run by the name of an image. The file
// exists once the user has edited it.
func (d Dir) OwnProfile() string { return d.File("vm.toml") }

// belongs refuses a profile that is not the VM's.
func (c *Claim) belongs(p *profiles.Profile) (moved string, err error) {
	was, is := c.Record.Profile, c.ProfileOf(p)
	switch {
	case c.Record.LastRun.IsZero(), was == is:
		return "", nil
	case was == "":
		return "", &TakenError{c.name, p.Path, "image " + c.Record.Image}
	case same(was, p.Path):
		return "", nil
	}
	if _, err := os.Stat(was); errors.Is(err, fs.ErrNotExist) {
		return was, nil
	}
	return "", &TakenError{c.name, p.Path, "profile " + was}
}

// same reports whether two paths are one file.
func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// TakenError tells that a VM's files belong to another profile.
type TakenError struct {
	VM, Profile string // that was to be run
	Of          string // "profile /p/web.toml" or "image debian-12"
}

// Error names both.
func (e *TakenError) Error() string {
	return fmt.Sprintf("use files of VM %q: it was made by %s, and %s has the same name", e.VM, e.Of, e.Profile)
}

// Hint says how to tell the two apart.
func (e *TakenError) Hint() string {
	return fmt.Sprintf("--name runs it under another name; or qnet rm %s removes the other's disk and files", e.VM)
}

// Update changes the record, on the disk too.
func (c *Claim) Update(change func(*Record)) error {
	change(&c.Record)
	return c.user.Do(func() error { return c.Save(c.Record) })
}

// Release gives the directory up. A second call does nothing, nor does one on nil.
func (c *Claim) Release() error {
	if c == nil || c.lock == nil {
		return nil
	}
	lock := c.lock
	c.lock = nil
	return c.user.Do(lock.Release)
}

// Abandon is Release for a run that failed before QEMU was started: of a VM that never ran
// nothing stays, and the record of another tells of the run before. It keeps the bases: the
// run may have made overlays.
func (c *Claim) Abandon() error {
	switch {
	case c == nil || c.lock == nil:
		return nil
	case c.First:
		return c.Destroy()
	}
	err := c.Update(func(r *Record) {
		r.Profile, r.Allowed, r.Image, r.LastRun = c.was.Profile, c.was.Allowed, c.was.Image, c.was.LastRun
	})
	return errors.Join(err, c.Release())
}

// Destroy removes the directory and all that is in it, and releases it.
func (c *Claim) Destroy() error {
	err := c.user.Do(c.Remove)
	return errors.Join(err, c.Release())
}
