package disks

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Identify tells a disk from one that replaces it under the same name: by its inode and
// the time at which that was made, where the file system keeps it (statx(2)). Writing does
// not change them. Of a block device it is the device's number.
func Identify(f *os.File) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return "", fmt.Errorf("look at disk %q: %w", f.Name(), err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		return fmt.Sprintf("block %d:%d", st.Rdev_major, st.Rdev_minor), nil
	case st.Mask&unix.STATX_BTIME != 0:
		return fmt.Sprintf("inode %d of %d.%09d", st.Ino, st.Btime.Sec, st.Btime.Nsec), nil
	}
	return fmt.Sprintf("inode %d on %d:%d", st.Ino, st.Dev_major, st.Dev_minor), nil
}
