package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ReadSysctl returns the value of a key, a path below /proc/sys, without the newline. It is
// fs.ErrNotExist where the kernel has no such key.
//
//	sysctl -n KEY
func ReadSysctl(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", key))
	return strings.TrimSpace(string(b)), err
}

// noSysctls says why no sysctl of the network can be set. It opens one for writing, and
// writes nothing. A caller without rights sees a read-only mount, too, and else "".
func noSysctls() string {
	const key = "/proc/sys/net/ipv4/conf/lo/forwarding"
	f, err := os.OpenFile(key, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
		return ""
	}
	var fs unix.Statfs_t
	readOnly := unix.Statfs(key, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
	switch {
	case readOnly, errors.Is(err, unix.EROFS):
		return "/proc/sys is read-only"
	case os.Geteuid() == 0 && errors.Is(err, os.ErrPermission):
		return "this process may not write to /proc/sys, though it is root's"
	}
	return ""
}
