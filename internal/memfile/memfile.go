// Package memfile makes files in memory that nobody can change any more, to be given to a
// program by their descriptors. They are on no disk, and gone with the last process that has
// them open.
package memfile

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// New returns a sealed file with what r holds, open for reading alone: QEMU refuses a
// descriptor that could write where it only reads (fdset in util/osdep.c of QEMU). QEMU, which
// is another user where root runs it, opens some of them again by /proc/self/fd; others
// cannot look into that directory (proc(5)). The name is for messages.
func New(name string, r io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate("qnet", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make %s in memory: %w", name, err)
	}
	w := os.NewFile(uintptr(fd), name)
	defer w.Close()
	if err := unix.Fchmod(fd, 0o444); err != nil {
		return nil, fmt.Errorf("make %s in memory: %w", name, err)
	}
	if _, err := io.Copy(w, r); err != nil {
		return nil, fmt.Errorf("make %s in memory: %w", name, err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	only, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s in memory: %w", name, err)
	}
	return os.NewFile(uintptr(only), name), nil
}
