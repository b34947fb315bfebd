package guest

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tapFile carries frames over a tap with IFF_VNET_HDR, which is what the keeper gives
// QEMU: a struct virtio_net_hdr stands before each frame (linux/virtio_net.h). Zeros in
// it say that the checksums are complete, as they are while the tap has no offloads.
type tapFile struct {
	*os.File
	buffer []byte // of Read, which receive alone calls
}

const vnetHeader = 10

func (f *tapFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(f.buffer)
	if err != nil {
		return 0, err
	}
	return copy(b, f.buffer[min(vnetHeader, n):n]), nil
}

func (f *tapFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(append(make([]byte, vnetHeader, vnetHeader+len(b)), b...))
	return max(n-vnetHeader, 0), err
}

// nonBlocking returns the tap in non-blocking mode, so that Close ends a Read, and closes f.
// The keeper sends taps in blocking mode, where Close would wait for the next frame.
func nonBlocking(f *os.File) (*os.File, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate tap %q: %w", f.Name(), err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("set tap %q non-blocking: %w", f.Name(), err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
