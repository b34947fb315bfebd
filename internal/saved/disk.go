package saved

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Disk is an image of the guest, as it was when the guest was saved. The guest's memory holds
// parts of it: on an image that changed since, the guest would write them to the wrong places.
type Disk struct {
	File  string `json:"file"`
	Inode uint64 `json:"inode,omitempty"` // 0 for a block device
	Dev   string `json:"dev"`             // of the file system, or the block device
	Size  int64  `json:"size,omitempty"`  // bytes
	Mtime int64  `json:"mtime,omitempty"` // Unix time, in nanoseconds
}

// DiskOf returns what an open image is now. ok is false for a file without a name, such as
// one in memory that qnet makes anew for each run.
func DiskOf(f *os.File) (d Disk, ok bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return d, false, fmt.Errorf("look at disk %q: %w", f.Name(), err)
	}
	d = Disk{File: f.Name()}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK { // its own times tell nothing of its contents
		d.Dev = fmt.Sprintf("block %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		return d, true, nil
	}
	d.Dev = fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	d.Inode, d.Size, d.Mtime = st.Ino, st.Size, st.Mtim.Nano()
	return d, st.Nlink > 0, nil
}

// disksOf returns what the images are now.
func disksOf(files []*os.File) ([]Disk, error) {
	var list []Disk
	for _, f := range files {
		d, named, err := DiskOf(f)
		if err != nil {
			return nil, err
		}
		if named {
			list = append(list, d)
		}
	}
	return list, nil
}

// changed returns what differs between the images then and now, "" if nothing does.
func changed(then, now []Disk) string {
	if len(then) != len(now) {
		return fmt.Sprintf("the VM has %d disks, and had %d", len(now), len(then))
	}
	for i, d := range then {
		switch n := now[i]; {
		case d.File != n.File:
			return fmt.Sprintf("disk %d is %q, and was %q", i, n.File, d.File)
		case d.Inode != n.Inode || d.Dev != n.Dev:
			return fmt.Sprintf("disk %q is another file of the same name", d.File)
		case d != n:
			return fmt.Sprintf("disk %q was written to since", d.File)
		}
	}
	return ""
}
