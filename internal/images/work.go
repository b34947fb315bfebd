package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/qnet-vm/qnet/internal/images/convert"
)

// work makes a qcow2 image of a file, by way of files of its own, which it removes.
type work struct {
	*pulling
	in     *os.File
	format string // that it found
}

// ErrNoDisk is wrapped by the refusal of a file that is no image by its contents.
var ErrNoDisk = convert.ErrNoDisk

// names of the files in work, behind the image's key.
const (
	unpacked  = ".unpacked"
	converted = ".qcow2"
	copied    = ".copy"
)

// qcow2 returns the path of a qcow2 image of what is in the file, and the size of its disk:
// the file itself, if it is one. It leaves nothing of an earlier try.
func (w *work) qcow2(ctx context.Context, compression string) (file string, size int64, err error) {
	w.clean()
	info, err := w.in.Stat()
	if err != nil {
		return "", 0, err
	}
	budget := convert.Budget(info.Size())
	in := w.in
	if compression != "" {
		if in, err = w.create(unpacked); err != nil {
			return "", 0, err
		}
		defer in.Close()
		report := w.reporter(Unpacking)
		u := convert.Unpacking{
			Compression: compression, Budget: budget, Report: func(done int64) { report(done, info.Size()) },
			Search: w.Search, Credential: w.credential(),
		}
		if err := u.Run(ctx, w.in, in); err != nil {
			return "", 0, err
		}
	}
	if w.format = w.Format; w.format == "" {
		if w.format, err = convert.Guess(in); err != nil {
			return "", 0, err
		}
	}
	if size, err = convert.Check(in, w.format); err != nil {
		return "", 0, err
	}
	if w.format == "qcow2" {
		return in.Name(), size, nil
	}
	return w.convert(ctx, in, budget)
}

// convert has qemu-img make a qcow2 image.
func (w *work) convert(ctx context.Context, in *os.File, budget int64) (file string, size int64, err error) {
	out, err := w.create(converted)
	if err != nil {
		return "", 0, err
	}
	defer out.Close()
	credential := w.credential()
	if credential != nil && w.Store.User == nil {
		// qemu-img is another user, and opens its files anew.
		if in, err = w.copy(ctx, in); err != nil {
			return "", 0, err
		}
		defer in.Close()
		if err := errors.Join(in.Chmod(0o444), out.Chmod(0o666)); err != nil {
			return "", 0, err
		}
	}
	report := w.reporter(Converting)
	err = convert.Conversion{
		In: in, Out: out, Format: w.format, Search: w.Search, Credential: credential, Budget: budget,
		Report: func(percent float64) { report(int64(percent), 100) },
	}.Run(ctx)
	if err != nil {
		return "", 0, err
	}
	size, err = convert.Check(out, "qcow2")
	return out.Name(), size, err
}

// credential returns the user that qemu-img runs as: as QEMU, never root.
func (w *work) credential() *syscall.Credential {
	const nobody = 65534
	switch u := w.Store.User; {
	case u != nil: // this thread has that user's ids already, others may have root's
		return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	case os.Getuid() != 0:
		return nil
	}
	return &syscall.Credential{Uid: nobody, Gid: nobody}
}

func (w *work) path(name string) string { return w.file("work", w.key()+name) }

func (w *work) create(name string) (*os.File, error) {
	return os.OpenFile(w.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// copy returns a copy of a file, with its holes.
func (w *work) copy(ctx context.Context, in *os.File) (*os.File, error) {
	if filepath.Dir(in.Name()) == filepath.Dir(w.path("")) {
		return os.Open(in.Name()) // it is one of our own
	}
	out, err := w.create(copied)
	if err != nil {
		return nil, err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	if err := convert.Copy(ctx, in, out); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// clean removes the files of this image in work.
func (w *work) clean() {
	for _, name := range []string{unpacked, converted, copied} {
		os.Remove(w.path(name))
	}
}

// adopt uses a file of the user's: a qcow2 image in its place, and others converted.
func (p *pulling) adopt(ctx context.Context) (Local, error) {
	in, err := os.Open(p.File)
	if err != nil {
		return Local{}, fmt.Errorf("read image: %w", err)
	}
	defer in.Close()
	if p.MayRead != nil {
		if err := p.MayRead(in); err != nil {
			return Local{}, err
		}
	}
	w := &work{pulling: p, in: in}
	defer w.clean()
	file, size, err := w.qcow2(ctx, convert.Compression(p.File))
	if err != nil {
		return Local{}, fmt.Errorf("image %s: %w", p.File, err)
	}
	digest, err := hashFile(file, p.reporter(Hashing))
	if err != nil {
		return Local{}, err
	}
	if file == p.File {
		err := p.pointTo(ref{Source: p.File, Digest: digest.String(), Size: size})
		return Local{Path: file, Digest: digest.String(), Size: size, Name: p.File}, err
	}
	return p.keep(file, Record{Digest: digest.String(), Size: size, Format: w.format})
}

// Plausible refuses a file of the user's that a pull would refuse because it is no image by its
// contents. One that is compressed may be one.
func Plausible(f *os.File) error {
	if convert.Compression(f.Name()) != "" || formatOf(f.Name()) != "" {
		return nil
	}
	if _, err := convert.Guess(f); err != nil {
		return fmt.Errorf("image %s: %w", f.Name(), err)
	}
	return nil
}
