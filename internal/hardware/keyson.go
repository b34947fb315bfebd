package hardware

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/profiles"
)

// KeysOn says on what the guest keeps what it makes at its first boot, such as its host
// keys: its first disk that can be written to. Where that is thrown away at the end, or
// there is none, it is this run, which started then. The words are for comparing only.
func (f *Files) KeysOn(p *profiles.Profile, started time.Time) (string, error) {
	for i, d := range Disks(p) {
		switch {
		case d.ReadOnly:
			continue
		case d.Snapshot:
			return runOf(started), nil
		}
		var disk string
		err := f.o.User.Do(func() (err error) {
			disk, err = identify(f.Disks[i].File)
			return err
		})
		return disk, err
	}
	return runOf(started), nil
}

func runOf(started time.Time) string { return "of the run of " + started.Format(time.RFC3339Nano) }

// identify tells a disk from one that replaces it under the same name: by its inode and
// the time at which that was made, where the file system keeps it (statx(2)). Writing does
// not change them. Of a block device it is the device's number.
func identify(f *os.File) (string, error) {
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
