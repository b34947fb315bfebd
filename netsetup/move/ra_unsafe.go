package move

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// addRoute6 adds an IPv6 route by ioctl(2), with the flags that rtnetlink does not take. It
// is no error if the route exists.
//
//	ip -6 route append PREFIX via GATEWAY dev LINK proto ra expires SECONDS
func addRoute6(m in6Rtmsg) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing follows from it
	// The kernel copies struct in6_rtmsg, whose layout in6Rtmsg has, and keeps no pointer.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&m)))
	if errno != 0 && errno != unix.EEXIST {
		return errno
	}
	return nil
}
