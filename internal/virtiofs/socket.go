package virtiofs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// socket returns a socket that listens and another that is connected to it. virtiofsd wants
// to accept a connection, and QEMU is to open no path. The socket's name is in a directory
// that only the caller may enter, below dir, and both are gone when it returns: nobody else
// connects.
func socket(dir string) (listening, connected *os.File, err error) {
	private, err := os.MkdirTemp(dir, "share")
	if err != nil {
		return nil, nil, fmt.Errorf("make socket for virtiofsd: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(private)) }()
	address := &unix.SockaddrUnix{Name: filepath.Join(private, "s")}
	files := make([]*os.File, 2)
	for i := range files {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("make socket for virtiofsd: %w", err), files[0].Close())
		}
		files[i] = os.NewFile(uintptr(fd), "virtiofsd")
	}
	for _, do := range []func() error{
		func() error { return unix.Bind(int(files[0].Fd()), address) },
		func() error { return unix.Listen(int(files[0].Fd()), 1) },
		func() error { return unix.Connect(int(files[1].Fd()), address) },
	} {
		if err := do(); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("make socket for virtiofsd: %w", err), files[0].Close(), files[1].Close())
		}
	}
	return files[0], files[1], nil
}
