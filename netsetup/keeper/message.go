package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message in bytes; the largest, a plan's steps, is some 10 KiB.
const maxMessage = 256 << 10

// maxFiles bounds the files in a message.
const maxFiles = maxPorts * maxQueues

var (
	// ErrTooLarge is wrapped by the error of Receive for a message that no qnet sends.
	ErrTooLarge = errors.New("message is too large")
	// ErrNoDevice is wrapped by the error of Receive for a file that cannot be a tap's.
	ErrNoDevice = errors.New("it is no character device")
)

// Send sends a message, v as JSON, with files.
func Send(c *net.UnixConn, v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(files) == 0 { // by write(2): a clerk may not call sendmsg(2)
		_, err = c.Write(b)
	} else {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		_, _, err = c.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
	}
	if err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// Receive waits for a message, decodes it into v and returns its files. The error
// wraps net.ErrClosed when the peer is gone.
func Receive(c *net.UnixConn, v any) ([]*os.File, error) {
	size, err := awaitMessage(c)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	if size == 0 { // SOCK_SEQPACKET: the peer is gone
		return nil, net.ErrClosed
	}
	b := make([]byte, min(size, maxMessage))
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	files, err := rightsOf(oob[:oobn])
	switch {
	case err != nil:
		return files, err
	case flags&unix.MSG_CTRUNC != 0: // the kernel has closed the others
		return files, fmt.Errorf("receive message: %w: more than %d files", ErrTooLarge, maxFiles)
	case size > maxMessage:
		return files, fmt.Errorf("receive message: %w: %d bytes, %d are allowed", ErrTooLarge, size, maxMessage)
	}
	if err := json.Unmarshal(b[:n], v); err != nil {
		return files, fmt.Errorf("decode message: %w", err)
	}
	return files, nil
}

// awaitMessage waits for a message and returns its length in bytes. It holds no
// buffer meanwhile: the keeper waits for each of its VMs.
func awaitMessage(c *net.UnixConn) (size int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	waitErr := raw.Read(func(fd uintptr) bool {
		size, _, _, _, err = unix.Recvmsg(int(fd), nil, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	return size, errors.Join(waitErr, err)
}

func rightsOf(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("receive files: %w", err)
	}
	var files []*os.File
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, fmt.Errorf("receive files: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if noDevice := isDevice(fd); noDevice != nil {
				err = noDevice
				unix.Close(fd) //nolint:errcheck // it was never used
				continue
			}
			files = append(files, os.NewFile(uintptr(fd), "tap"))
		}
		if err != nil {
			return files, fmt.Errorf("receive files: %w", err)
		}
	}
	return files, nil
}

// isDevice refuses a file that is no character device, before anything is asked of the file: a
// file system in user space (FUSE) may never answer. The kernel knows the kind without
// asking (AT_STATX_DONT_SYNC, fuse_update_get_attr in fs/fuse/dir.c). os.NewFile would
// ask whether the file can be polled, and while that takes, no other goroutine could use any
// file (ep_insert in fs/eventpoll.c).
func isDevice(fd int) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return fmt.Errorf("file %d: %w", fd, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return fmt.Errorf("file %d: %w", fd, ErrNoDevice)
	}
	return nil
}

// CloseAll closes the files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
