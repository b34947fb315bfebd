//go:build linux

package read

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// getsockopt is getsockopt(2) with a buffer that holds the request and gets the reply.
// The functions of package unix pass no request.
func getsockopt(fd, level, name int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	runtime.KeepAlive(b)
	if errno != 0 {
		return errno
	}
	return nil
}
