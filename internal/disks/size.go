package disks

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Size writes a number of bytes for people: "20 GiB", "1.5 GiB", "512 B".
func Size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, i := float64(n), 0
	for value >= 1024 && i < len(units)-1 {
		value, i = value/1024, i+1
	}
	return strconv.FormatFloat(float64(int64(value*10))/10, 'f', -1, 64) + " " + units[i]
}

// sizeKey writes a size as a profile does, rounded up: "20GiB", "1025MiB".
func sizeKey(n int64) string {
	if n%(1<<30) == 0 {
		return fmt.Sprintf("%dGiB", n>>30)
	}
	return fmt.Sprintf("%dMiB", (n+1<<20-1)>>20)
}

// Used returns how many bytes of the host's disk a file takes, 0 for one that is not there.
// Files of disks are sparse.
func Used(path string) int64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// SizeOf returns the size of the disk in a qcow2 image, in bytes, 0 for a file that is none.
func SizeOf(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	size, err := sizeAs(f, Qcow2)
	if err != nil {
		return 0
	}
	return size
}
