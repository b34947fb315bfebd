package guest

import (
	"fmt"
	"io"
)

// archive writes the "newc" cpio format (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).
// The libraries that write the format bring much else along.
type archive struct {
	w     io.Writer
	inode int
	err   error
}

// add appends an entry; a symlink's data is its target.
func (a *archive) add(name string, mode uint32, data []byte) {
	a.inode++
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.write([]byte(header + name + "\x00"))
	a.pad(len(header) + len(name) + 1)
	a.write(data)
	a.pad(len(data))
}

func (a *archive) pad(n int) { a.write(make([]byte, (4-n%4)%4)) }

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
}
