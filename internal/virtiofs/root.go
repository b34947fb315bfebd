package virtiofs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// folderAt is where virtiofsd finds the folder.
const folderAt = "/share"

// programsAt are where the host has programs and their libraries: what virtiofsd needs to be
// loaded. Nix and Guix keep them in stores of their own.
var programsAt = []string{"/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store", "/etc/ld.so.cache"}

// ownAt are what virtiofsd looks up of itself, and, to read, how many files the host can have
// open. Of proc(5) it gets nothing else: not the rest of /proc/sys, which root may write to.
var ownAt = []string{"/proc/self/fd", "/proc/self/task", "/proc/self/mountinfo", "/proc/sys/fs/file-max", "/proc/sys/fs/nr_open"}

// basis is the directory on which the new root is made. It is there on every host.
const basis = "/proc"

// tree is a detached copy of mounts, or a link, and its place in the new root.
type tree struct {
	path string
	fd   int
	dir  bool
	link string // where a link leads to; then there is no copy
}

// root makes the root directory of the stage's mount namespace.
type root struct {
	order
	trees []tree
}

// build takes copies of all mounts that virtiofsd is to see, makes an empty root, puts them
// there, and drops the host's root. The working directory is the folder.
func (r *root) build() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := r.take(); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", basis, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=256k,mode=0755"); err != nil {
		return fmt.Errorf("mount an empty root: %w", err)
	}
	for _, t := range r.trees {
		if err := t.put(); err != nil {
			return fmt.Errorf("put %s below the new root: %w", t.path, err)
		}
	}
	if err := enterRoot(); err != nil {
		return err
	}
	return readOnly(unix.AT_FDCWD, "/", 0)
}

// take copies the mounts. The folder comes first, and what is to be kept in it last.
func (r *root) take() error {
	var st unix.Stat_t
	if err := unix.Stat(".", &st); err != nil || st.Nlink == 0 {
		return errors.Join(errors.New("the folder was removed meanwhile"), err)
	}
	attributes := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if r.ReadOnly {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	if err := r.copy(".", folderAt, attributes); err != nil {
		return fmt.Errorf("mount the folder: %w", err)
	}
	for _, path := range r.programs() {
		if err := r.copy(path, path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	for _, path := range ownAt {
		if err := r.copy(path, path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	if r.ReadOnly {
		return nil
	}
	for _, path := range r.Keep {
		if err := r.copy(path, filepath.Join(folderAt, path), unix.MOUNT_ATTR_RDONLY); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s read-only: %w", path, err)
		}
	}
	return nil
}

// programs returns the places of programs, virtiofsd's own among them.
func (r *root) programs() []string {
	list := programsAt
	if file, err := filepath.EvalSymlinks(r.Program); err == nil {
		for _, path := range []string{filepath.Dir(r.Program), filepath.Dir(file)} {
			list = append(list[:len(list):len(list)], path)
		}
	}
	var distinct []string
	for _, path := range list {
		if !within(path, distinct) {
			distinct = append(distinct, path)
		}
	}
	return distinct
}

// within reports whether the path is one of the list or below one.
func within(path string, list []string) bool {
	for _, dir := range list {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return false
}

// copy takes a copy of the mounts at from, with these attributes besides those they have. A
// link is copied as a link.
func (r *root) copy(from, to string, attributes uint64) error {
	info, err := os.Lstat(from)
	if err != nil {
		return errors.Unwrap(err)
	}
	if info.Mode()&os.ModeSymlink != 0 && to == from {
		target, err := os.Readlink(from)
		r.trees = append(r.trees, tree{path: to, link: target})
		return err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return err
	}
	r.trees = append(r.trees, tree{path: to, fd: fd, dir: info.IsDir()})
	attr := unix.MountAttr{Attr_set: attributes}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
}

// put mounts the copy below the new root. Its descriptor is closed when the stage becomes
// virtiofsd.
func (t tree) put() error {
	at := basis + t.path
	if !within(t.path, []string{folderAt}) || t.path == folderAt { // what is in the folder is there already
		if err := t.place(at); err != nil {
			return err
		}
	}
	if t.link != "" {
		return nil
	}
	return unix.MoveMount(t.fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// place makes the directory, file or link at which a copy is mounted.
func (t tree) place(at string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	switch {
	case t.link != "":
		return os.Symlink(t.link, at)
	case t.dir:
		return os.MkdirAll(at, 0o755)
	}
	return os.WriteFile(at, nil, 0o444)
}

// enterRoot makes the new root the root, and lets go of the host's.
func enterRoot() error {
	if err := os.Chdir(basis); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	return nil
}

// readOnly makes a mount read-only, and not those below it.
func readOnly(fd int, path string, flags uint) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(fd, path, flags, &attr); err != nil {
		return fmt.Errorf("make %s read-only: %w", path, err)
	}
	return nil
}
