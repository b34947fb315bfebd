package virtiofs

import "golang.org/x/sys/unix"

// legacy are the calls with a path that the machine has from older times. virtiofsd uses
// those that start at a directory it has open.
var legacy = []uint32{
	unix.SYS_OPEN, unix.SYS_CREAT, unix.SYS_CHMOD, unix.SYS_MKNOD, unix.SYS_MKDIR, unix.SYS_CHOWN, unix.SYS_LCHOWN,
}
