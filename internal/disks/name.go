package disks

import (
	"fmt"
	"path/filepath"
	"strings"
)

// OverlayName names the overlay on a base that has no file of its own: by the base, so that
// it stays the same when disks change their order.
func OverlayName(base string, taken map[string]bool) string {
	name := filepath.Base(base)
	name = strings.TrimSuffix(name, filepath.Ext(name))
	for n := 1; ; n++ {
		file := fmt.Sprintf("disk-%.200s-%d.qcow2", name, n)
		if !taken[file] {
			taken[file] = true
			return file
		}
	}
}
