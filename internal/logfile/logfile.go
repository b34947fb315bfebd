// Package logfile writes logs that a guest cannot fill the disk by.
package logfile

import (
	"os"

	"github.com/qnet-vm/qnet/internal/perm"
)

// maxLog is the size, in bytes, at which a log is put aside: a guest must not fill the
// disk.
const maxLog = 4 << 20

// File is a log that is renamed to .1, in place of an older one, when it grows past
// maxLog.
type File struct {
	path string
	file *os.File
	size int64
}

// Open begins a log, in place of one of the run before.
func Open(path string) (*File, error) {
	l := &File{path: path}
	return l, l.create()
}

// create removes the file and creates a new one: a link that a user put there must not
// choose the file that root writes to.
func (l *File) create() error {
	if err := os.Remove(l.path); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm.Private)
	if err == nil {
		err = perm.Set(f, perm.Private)
	}
	if err != nil {
		return err
	}
	l.file, l.size = f, 0
	return nil
}

// Write appends to the log.
func (l *File) Write(b []byte) (int, error) {
	if l.size+int64(len(b)) > maxLog {
		l.file.Close()
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return 0, err
		}
		if err := l.create(); err != nil {
			return 0, err
		}
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *File) Close() error { return l.file.Close() }
