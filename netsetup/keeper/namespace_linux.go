package keeper

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// inodeName is the name /proc/PID/ns/net would show for a namespace file.
func inodeName(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ""
	}
	return fmt.Sprintf("net:[%d]", st.Ino)
}
