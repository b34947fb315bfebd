package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message in bytes; the largest, a plan's steps, is some 10 KiB.
const maxMessage = 256 << 10

const (
	// maxFiles bounds the files in a request.
	maxFiles = maxPorts * maxQueues
	// maxRights is how many files the kernel passes with one message (SCM_MAX_FD in unix(7)).
	maxRights = 253
)

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

// SendReply sends a reply with any number of files, in as many messages as it takes.
func SendReply(c *net.UnixConn, r Reply, files ...*os.File) error {
	first := min(len(files), maxRights)
	r.More = len(files) - first
	if err := Send(c, r, files[:first]...); err != nil {
		return err
	}
	for rest := range slices.Chunk(files[first:], maxRights) {
		if err := Send(c, struct{}{}, rest...); err != nil {
			return err
		}
	}
	return nil
}

// receiveReply waits for a reply and all its files.
func receiveReply(c *net.UnixConn, r *Reply) ([]*os.File, error) {
	files, err := receive(c, r, maxRights, unix.S_IFCHR, unix.S_IFSOCK)
	for want := len(files) + r.More; err == nil && len(files) < want; {
		var more []*os.File
		more, err = receive(c, &struct{}{}, maxRights, unix.S_IFSOCK)
		files = append(files, more...)
		if err == nil && len(more) == 0 {
			err = fmt.Errorf("receive files: %d of %d came", len(files), want)
		}
	}
	return files, err
}

// Receive waits for a message, decodes it into v and returns its files. The error
// wraps net.ErrClosed when the peer is gone.
func Receive(c *net.UnixConn, v any) ([]*os.File, error) {
	return receive(c, v, maxFiles, unix.S_IFCHR)
}

// receive is Receive for at most so many files of certain kinds.
func receive(c *net.UnixConn, v any, most int, kinds ...uint16) ([]*os.File, error) {
	size, err := awaitMessage(c)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	if size == 0 { // SOCK_SEQPACKET: the peer is gone
		return nil, net.ErrClosed
	}
	b := make([]byte, min(size, maxMessage))
	oob := make([]byte, unix.CmsgSpace(4*most))
	n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	files, err := rightsOf(oob[:oobn], kinds)
	switch {
	case err != nil:
		return files, err
	case flags&unix.MSG_CTRUNC != 0: // the kernel has closed the others
		return files, fmt.Errorf("receive message: %w: more than %d files", ErrTooLarge, most)
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

func rightsOf(oob []byte, kinds []uint16) ([]*os.File, error) {
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
			if wrong := isOf(fd, kinds); wrong != nil {
				err = wrong
				unix.Close(fd) //nolint:errcheck // it was never used
				continue
			}
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
		if err != nil {
			return files, fmt.Errorf("receive files: %w", err)
		}
	}
	return files, nil
}

// isOf refuses a file that is of none of the kinds (inode(7)), before anything is asked of the
// file: a file system in user space (FUSE) may never answer. The kernel knows the kind without
// asking (AT_STATX_DONT_SYNC, fuse_update_get_attr in fs/fuse/dir.c). os.NewFile would
// ask whether the file can be polled, and while that takes, no other goroutine could use any
// file (ep_insert in fs/eventpoll.c).
func isOf(fd int, kinds []uint16) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return fmt.Errorf("file %d: %w", fd, err)
	}
	if !slices.Contains(kinds, st.Mode&unix.S_IFMT) {
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
