package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// libraries are where programs and what they load lie. A missing one is no error.
var libraries = []string{
	"/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
	"/dev/zero", "/dev/urandom",
}

// Rights to files (linux/landlock.h).
const (
	readFile  = unix.LANDLOCK_ACCESS_FS_READ_FILE
	writeFile = unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	load      = unix.LANDLOCK_ACCESS_FS_EXECUTE | readFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	firstAll  = 1<<13 - 1 // what the first version of Landlock handles

	keep = readFile | writeFile | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
)

// landlockVersion returns the version that the kernel has, 0 without Landlock.
func landlockVersion() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// handled returns the rights that a version of Landlock can take away.
func handled(version int) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: firstAll}
	if version >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return attr
}

// restrictFiles leaves the thread the command's files and what programs load.
func (c Command) restrictFiles() error {
	version := landlockVersion()
	if version == 0 {
		return nil
	}
	attr := handled(version)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) // older kernels accept zeros beyond what they know
	if errno != 0 {
		return fmt.Errorf("make Landlock ruleset: %w", errno)
	}
	ruleset := int(fd)
	defer unix.Close(ruleset) //nolint:errcheck // nothing was written to it
	if err := c.allow(ruleset, attr.Handled_access_fs); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("restrict by Landlock: %w", errno)
	}
	return nil
}

// allow adds the rules.
func (c Command) allow(ruleset int, all uint64) error {
	for _, path := range slices.Concat([]string{filepath.Dir(c.Path)}, libraries, c.Also) {
		dir, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		err = allowBeneath(ruleset, dir, load&all)
		if err = errors.Join(err, unix.Close(dir)); err != nil {
			return fmt.Errorf("allow %s: %w", path, err)
		}
	}
	if null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0); err == nil {
		defer null.Close()
		c.Write = append(slices.Clone(c.Write), null)
	}
	for access, files := range map[uint64][]*os.File{
		keep & all: c.Dirs,
		readFile:   c.Read,
		(readFile | writeFile | unix.LANDLOCK_ACCESS_FS_TRUNCATE) & all: c.Write,
	} {
		for _, f := range files {
			if err := allowBeneath(ruleset, int(f.Fd()), access); err != nil {
				return fmt.Errorf("allow %s: %w", f.Name(), err)
			}
		}
	}
	return nil
}

// allowBeneath adds the rule for a directory and what is in it, or for a file, which has
// none of the rights to directories.
func allowBeneath(ruleset, fd int, access uint64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= unix.LANDLOCK_ACCESS_FS_EXECUTE | readFile | writeFile | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
