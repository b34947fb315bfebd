// Package reachable decides which files and folders of the host a profile may name. A
// colleague may have written the profile: it gets nothing of the user's outside its own
// folder unless the user says so.
//
// What counts is where a path leads, by links too. [Folders.Check] asks the kernel for the
// place of a file that is open, so that nobody can change it after the check.
//
// Disk images (disk.file) and boot files (boot.kernel, boot.initrd) are not checked: they
// are from before there were such rules, and were always the user's to name.
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
)

// Folders are where a profile may reach: everything in them and below.
type Folders struct {
	own  string   // the profile's folder
	more []string // what the user allows besides
}

// Of returns the folders of the profile at the path: its own, and those that the user
// allows, by --allow-path or because they are for all VMs, as the images are. All paths are
// absolute. A folder that does not exist allows nothing.
func Of(profile string, allowed ...string) Folders {
	f := Folders{own: resolved(filepath.Dir(profile))}
	for _, dir := range allowed {
		f.more = append(f.more, resolved(dir))
	}
	return f
}

// resolved returns where a path leads, or the path if that cannot be told.
func resolved(path string) string {
	if place, err := filepath.EvalSymlinks(path); err == nil {
		return place
	}
	return filepath.Clean(path)
}

// Check returns a *Error if the file, or folder, is outside. what is for the error: "share".
// path is what the profile says.
func (f Folders) Check(what, path string, file *os.File) error {
	place, err := Place(file)
	if err != nil {
		return fmt.Errorf("find the place of %s %q: %w", what, path, err)
	}
	return f.judge(what, path, place)
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

// CheckPath is Check for a file that may not exist yet, and for one that another process
// opens: it judges by where the path leads now.
func (f Folders) CheckPath(what, path string) error {
	missing := ""
	for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
		place, err := filepath.EvalSymlinks(dir)
		switch {
		case err == nil:
			return f.judge(what, path, filepath.Join(place, missing))
		case !errors.Is(err, fs.ErrNotExist) || dir == "/":
			return fmt.Errorf("find the place of %s %q: %w", what, path, err)
		}
		if _, err := os.Lstat(dir); err == nil { // a link to nowhere yet
			return fmt.Errorf("find the place of %s %q: %q is a link to a place that does not exist", what, path, dir)
		}
		missing = filepath.Join(filepath.Base(dir), missing)
	}
}

func (f Folders) judge(what, path, place string) error {
	if slices.ContainsFunc(append([]string{f.own}, f.more...), func(dir string) bool { return below(dir, place) }) {
		return nil
	}
	return &Error{What: what, Path: path, Real: place, Own: f.own}
}

// below reports whether the path is the folder or in it. Both are free of links.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// Error tells that a profile names something that it may not reach.
type Error struct {
	What, Path string // "share", "/home/u/.ssh"
	Real       string // where the path leads
	Own        string // the profile's folder
}

// Error names both.
func (e *Error) Error() string {
	leads := ""
	if e.Real != filepath.Clean(e.Path) {
		leads = fmt.Sprintf(", which leads to %q,", e.Real)
	}
	return fmt.Sprintf("use %s %q: it%s is outside the profile's own folder %q", e.What, e.Path, leads, e.Own)
}

// Hint returns what the user can do about it.
func (e *Error) Hint() string {
	return fmt.Sprintf("if the profile is to reach it, say so: --allow-path %s", e.Real)
}
