package confine

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Access is a set of rights to files, LANDLOCK_ACCESS_FS_* (linux/landlock.h). Rights that
// the kernel's Landlock does not know are left out.
type Access uint64

// What programs do with files and directories.
const (
	Read Access = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	// Load is what it takes to start a program and to load libraries.
	Load = Read | unix.LANDLOCK_ACCESS_FS_EXECUTE
	// Write is for files that exist.
	Write Access = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	// Device is for devices that are more than their bytes, such as /dev/kvm.
	Device = Write | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	// Keep is for a directory in which the program makes, changes and removes files.
	Keep = Read | Write | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE
)

const (
	firstAll = 1<<13 - 1 // what the first version of Landlock handles
	// forFiles are the rights that a file can have, and not only a directory.
	forFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | Device
)

// Rule allows an access to a file, or to a directory and all below it. Open names it; where
// that is nil, Path does, and a path that does not exist is no error.
type Rule struct {
	Path   string
	Open   *os.File
	Access Access
}

// Libraries are where programs and what they load lie.
func Libraries() []string {
	return []string{
		"/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/gnu/store",
		"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/dev/zero", "/dev/urandom",
	}
}

// Landlock returns the version of Landlock that the kernel has, 0 without it
// (landlock_create_ruleset(2)).
func Landlock() int {
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// portRule is a rule that allows an access to a TCP port (struct landlock_net_port_attr).
type portRule struct{ access, port uint64 }

// rulePort is the kind of it, LANDLOCK_RULE_NET_PORT.
const rulePort = 2

// handled returns the rights that a version of Landlock can take away; those to TCP stay
// where the program uses it.
func handled(version int, tcp bool) unix.LandlockRulesetAttr {
	attr := unix.LandlockRulesetAttr{Handled_access_fs: firstAll}
	if version >= 2 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if version >= 3 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version >= 4 && !tcp {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 5 {
		attr.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// Files leaves the calling thread and its children the rules' files, to open. It also takes
// away ptrace(2) on processes outside; from version 4 on TCP, unless tcp is true, but for
// connections to the ports; and from version 6 on signals to processes outside and their abstract UNIX sockets (landlock(7)). It
// needs PR_SET_NO_NEW_PRIVS. Files that are open stay usable. Without Landlock it changes
// nothing and returns nil.
//
// TCP is what IPPROTO_TCP is: multipath TCP is none, and connections of sendto(2) with
// MSG_FASTOPEN are not asked for, at least up to Linux 6.18.
func Files(rules []Rule, tcp bool, ports ...uint16) error {
	version := Landlock()
	if version == 0 {
		return nil
	}
	attr := handled(version, tcp)
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) // older kernels accept zeros beyond what they know
	if errno != 0 {
		return fmt.Errorf("make Landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd)) //nolint:errcheck // nothing was written to it
	for _, r := range rules {
		if err := r.add(int(fd), Access(attr.Handled_access_fs)); err != nil {
			return fmt.Errorf("allow %s by Landlock: %w", r.name(), err)
		}
	}
	if attr.Handled_access_net != 0 {
		if err := addPorts(int(fd), ports); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("restrict by Landlock: %w", errno)
	}
	return nil
}

// addPorts lets a ruleset's threads connect to TCP ports.
func addPorts(ruleset int, ports []uint16) error {
	for _, port := range ports {
		rule := portRule{access: unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, port: uint64(port)}
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), rulePort, uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
			return fmt.Errorf("allow TCP port %d by Landlock: %w", port, errno)
		}
	}
	return nil
}

func (r Rule) name() string {
	if r.Open != nil {
		return r.Open.Name()
	}
	return r.Path
}

// add adds the rule to the ruleset, without the rights that Landlock does not handle.
func (r Rule) add(ruleset int, handled Access) error {
	var fd int
	if r.Open != nil {
		defer runtime.KeepAlive(r.Open)
		fd = int(r.Open.Fd())
	} else {
		var err error
		if fd, err = unix.Open(r.Path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return nil // the program cannot open it either
		}
		defer unix.Close(fd) //nolint:errcheck // it is open for its place only
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	access := r.Access & handled
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= forFiles
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: uint64(access), Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 && errno != unix.EBADFD {
		return errno // EBADFD: a pipe or a file in memory, which Landlock always lets open
	}
	return nil
}
