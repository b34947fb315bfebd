package guest

import "os"

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
