package host

import (
	"os"
	"path/filepath"
	"strings"
)

// ReadSysctl returns the value of a key, a path below /proc/sys, without the newline. It is
// fs.ErrNotExist where the kernel has no such key.
//
//	sysctl -n KEY
func ReadSysctl(key string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", key))
	return strings.TrimSpace(string(b)), err
}
