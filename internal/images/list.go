package images

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/vmdir"
)

// Cached is an image of the cache.
type Cached struct {
	Record
	Path    string `json:"path"`
	Current bool   `json:"current"` // a name, URL or file stands for it now
}

// List returns the images of the cache, by name, the newest first. It makes no directory.
func (s Store) List() (list []Cached, err error) {
	err = s.User.Do(func() error {
		list, err = s.list()
		return err
	})
	return list, err
}

func (s Store) list() ([]Cached, error) {
	records, err := s.records()
	if err != nil {
		return nil, err
	}
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	list := []Cached{}
	for _, r := range records {
		path := s.local(r).Path
		if _, err := os.Stat(path); err != nil {
			continue // it is just coming, or going
		}
		current := slices.ContainsFunc(refs, func(x ref) bool { return x.Digest == r.Digest })
		list = append(list, Cached{r, path, current})
	}
	order.By(list, func(a, b Cached) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), b.Pulled.Compare(a.Pulled))
	})
	return list, nil
}

func (s Store) records() ([]Record, error) { return readAll[Record](filepath.Join(s.Dir, "blobs")) }

func (s Store) refs() ([]ref, error) { return readAll[ref](filepath.Join(s.Dir, "refs")) }

// readAll reads the JSON files of a directory, none if it is missing. Another process may
// remove some meanwhile.
func readAll[T any](dir string) ([]T, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var list []T
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		var v T
		if err := readJSON(filepath.Join(dir, e.Name()), &v); err == nil {
			list = append(list, v)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return list, nil
}

// InUse returns the VMs whose disks rest on an image, by its digest.
type InUse func(digest string) []string

// UsedBy reads the records of a user's VMs, below the directory place.Places.VMs.
func (s Store) UsedBy(vms string) (InUse, error) {
	users := map[string][]string{}
	err := s.User.Do(func() error {
		dirs, err := vmdir.List(vms)
		if err != nil {
			return err
		}
		for _, d := range dirs {
			r, err := d.Load()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			for _, base := range r.Bases {
				if !slices.Contains(users[base.Digest], d.Name()) {
					users[base.Digest] = append(users[base.Digest], d.Name())
				}
			}
		}
		return nil
	})
	return func(digest string) []string { return users[digest] }, err
}

// UsedError is an image that VMs need.
type UsedError struct {
	Name string
	VMs  []string
}

// Error names the VMs.
func (e *UsedError) Error() string {
	return fmt.Sprintf("remove image %s: the disks of these VMs rest on it: %s", e.Name, strings.Join(e.VMs, ", "))
}

// Hint says what to do.
func (e *UsedError) Hint() string {
	return "qnet rm VM removes a VM with its disk; then the image can go"
}

// NotCachedError is an image that the cache does not have.
type NotCachedError struct{ Name string }

// Error names it.
func (e *NotCachedError) Error() string { return fmt.Sprintf("image %s: not in the cache", e.Name) }

// Hint says what is.
func (e *NotCachedError) Hint() string { return `"qnet image ls" lists what is` }

// shortest is how many digits of a digest name an image.
const shortest = 8

// Match returns the images of the cache that a user names: all of a name, a URL or a file, or
// the one of a digest, of which the first digits do.
func (s Store) Match(i Image, text string) (found []Cached, err error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	digits := hexOf(text)
	for _, c := range list {
		if i.Source() != "" && c.Name == i.Source() || len(digits) >= shortest && strings.HasPrefix(hexOf(c.Digest), digits) {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil, &NotCachedError{text}
	}
	return found, nil
}

// Remove removes an image of the cache, unless VMs need it. The error is then a *UsedError or
// a *HeldError.
func (s Store) Remove(c Cached, inUse InUse) error {
	if vms := inUse(c.Digest); len(vms) > 0 {
		return &UsedError{c.Name, vms}
	}
	return s.User.Do(func() error { return s.remove(c) })
}

// remove removes the names of an image first: without them nothing finds it.
func (s Store) remove(c Cached) error {
	image, err := c.seize()
	if held := (*HeldError)(nil); errors.As(err, &held) {
		return err
	}
	if err == nil {
		defer image.Close()
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir, "refs"))
	if err != nil {
		return fmt.Errorf("remove image %s: %w", c.Name, err)
	}
	var errs []error
	for _, e := range entries {
		var r ref
		path := s.file("refs", e.Name())
		if readJSON(path, &r) == nil && r.Digest == c.Digest {
			errs = append(errs, os.Remove(path))
		}
	}
	errs = append(errs, os.Remove(c.Path), os.Remove(strings.TrimSuffix(c.Path, ".qcow2")+".json"))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove image %s: %w", c.Name, err)
	}
	return nil
}

// Pruned is what Prune removed.
type Pruned struct {
	Images []Cached `json:"images"`
	Parts  []string `json:"parts"` // of pulls that nobody goes on with
	Bytes  int64    `json:"bytes"`
}

// Prune removes the images that no VM needs, and what is left of downloads that were not
// ended. It leaves alone what another process is pulling.
func (s Store) Prune(inUse InUse) (p Pruned, err error) {
	p = Pruned{Images: []Cached{}, Parts: []string{}}
	err = s.User.Do(func() error {
		list, err := s.list()
		errs := []error{err}
		for _, c := range list {
			if len(inUse(c.Digest)) > 0 {
				continue
			}
			err := s.remove(c)
			if held := (*HeldError)(nil); errors.As(err, &held) {
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			p.Images, p.Bytes = append(p.Images, c), p.Bytes+c.Bytes
		}
		return errors.Join(append(errs, s.sweep(&p))...)
	})
	return p, err
}

// sweep removes parts and what is in work, but for what is locked.
func (s Store) sweep(p *Pruned) error {
	var errs []error
	for _, dir := range []string{"parts", "work"} {
		entries, err := os.ReadDir(filepath.Join(s.Dir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			key := e.Name()
			for _, ending := range []string{".json.new", ".json", unpacked, converted, copied} {
				key = strings.TrimSuffix(key, ending)
			}
			lock, err := lockfile.Try(s.file("locks", key))
			if err != nil {
				continue // another process is at it
			}
			if info, err := e.Info(); err == nil && key == e.Name() {
				p.Parts, p.Bytes = append(p.Parts, key), p.Bytes+info.Size()
			}
			errs = append(errs, fetch.Forget(s.file(dir, e.Name())), lock.Release())
		}
	}
	return errors.Join(errs...)
}
