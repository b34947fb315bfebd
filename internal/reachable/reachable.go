// Package reachable decides which files and folders of the host a profile may name. A
// colleague may have written the profile: it gets nothing of the user's outside its own
// folder unless the user says so, by --allow-path, or once for all profiles in the file
// allow-paths of the settings.
//
// What counts is where a path leads, by links too. [Folders.Check] asks the kernel for the
// place of a file that is open, so that nobody can change it after the check.
// [Folders.CheckPath] looks at a path before it is opened or made, so that a run is refused
// before it changes anything; alone it is no check, as links can change after it.
package reachable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/profiles"
)

// Folders are where a profile may reach: everything in them and below. A file among them is
// that file.
type Folders struct {
	profile *profiles.Profile
	config  string   // directory of the user's settings
	own     string   // the profile's folder
	more    []string // what the user allows besides
	named   []named  // by the profile
}

// Of returns the folders of a profile: its own, and those that the user allows, by
// --allow-path (the profile's Allowed) or in the settings in the directory config, "" for a
// user without one. A folder that does not exist allows nothing. Call it with the user's
// rights. The error is profiles.Errors, or says why the settings cannot be read.
func Of(p *profiles.Profile, config string, q Qnets) (*Folders, error) {
	f := &Folders{profile: p, config: config, own: resolved(filepath.Dir(p.Path)), named: namedBy(p, q)}
	always, err := settings(config)
	for _, dir := range append(slices.Clone(p.Allowed), always...) {
		f.more = append(f.more, resolved(dir))
	}
	return f, err
}

// resolved returns where a path leads, or the path if that cannot be told.
func resolved(path string) string {
	if place, err := filepath.EvalSymlinks(path); err == nil {
		return place
	}
	return filepath.Clean(path)
}

// Check returns a *Error if the file, or folder, is outside. The key and the path are for the
// error: where the profile names it, and what it says there.
func (f *Folders) Check(key, path string, file *os.File) error {
	place, err := Place(file)
	if err != nil {
		return fmt.Errorf("find the place of %s %q: %w", key, path, err)
	}
	return f.judge(key, path, place)
}

// Place returns where a file or folder that is open is now, as a path without links. The error
// says why that cannot be told, such as that it was removed.
func Place(file *os.File) (string, error) {
	place, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err == nil && strings.HasSuffix(place, " (deleted)") {
		err = errors.New("it was removed meanwhile")
	}
	return place, err
}

// OpenRegular opens a regular file for reading. The error is an *fs.PathError. A FIFO would
// block, and is refused like all other things.
func OpenRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("it is no regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// CheckPath is Check for a file that is not open, and may not exist yet: it judges by where
// the path leads now. The path is clean, as those of package profiles are.
func (f *Folders) CheckPath(key, path string) error {
	missing := ""
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		place, err := filepath.EvalSymlinks(dir)
		switch {
		case err == nil:
			return f.judge(key, path, filepath.Join(place, missing))
		case !errors.Is(err, fs.ErrNotExist) || dir == "/":
			return fmt.Errorf("find the place of %s %q: %w", key, path, err)
		}
		if _, err := os.Lstat(dir); err == nil { // a link to nowhere yet
			return fmt.Errorf("find the place of %s %q: %q is a link to a place that does not exist", key, path, dir)
		}
		missing = filepath.Join(filepath.Base(dir), missing)
	}
}

// Outside is CheckPath for what is opened next: where the path cannot be followed, opening it says
// why.
func (f *Folders) Outside(key, path string) error {
	if outside, ok := errors.AsType[*Error](f.CheckPath(key, path)); ok {
		return outside
	}
	return nil
}

// Open opens a regular file for reading that the profile names by the key. The error is a *Error,
// or an *fs.PathError.
func (f *Folders) Open(key, path string) (*os.File, error) {
	if err := f.Outside(key, path); err != nil {
		return nil, err
	}
	file, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	if err := f.Check(key, path, file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (f *Folders) judge(key, path, place string) error {
	allowed := append([]string{f.own}, f.more...)
	for _, n := range f.named {
		for _, dir := range n.also {
			if n.key == key && dir != "" {
				allowed = append(allowed, resolved(dir))
			}
		}
	}
	for _, dir := range allowed {
		if below(dir, place) {
			return nil
		}
	}
	return &Error{Key: key, Path: path, Real: place, allowed: allowed, folders: f}
}

// below reports whether the path is the folder or in it. Both are free of links.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
