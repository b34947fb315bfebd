package convert

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ulikunitz/xz"

	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/qemu/program"
)

// compressions are the endings of compressed files' names.
var compressions = []string{"gz", "xz", "zst", "bz2"}

// Compression returns how a file of a name, or the path of a URL, is compressed: gz, xz, zst,
// bz2, or "".
func Compression(name string) string {
	for _, c := range compressions {
		if strings.HasSuffix(strings.ToLower(name), "."+c) {
			return c
		}
	}
	return ""
}

// maxWindow bounds the memory of a decompressor, in bytes. `xz -9` and `zstd -22 --ultra`
// need 64 and 128 MiB.
const maxWindow = 128 << 20

// Unpacking says how a compressed file is expanded.
type Unpacking struct {
	Compression string
	Budget      int64            // how many bytes may be written
	Report      func(done int64) // gets how many bytes of the input are read

	Search     string              // the value of PATH, for zstd
	Credential *syscall.Credential // as Conversion's, for zstd
}

// decompressor returns a reader of what is compressed. The caller calls end.
func (u Unpacking) decompressor(ctx context.Context, r io.Reader) (plain io.Reader, end func(), err error) {
	switch u.Compression {
	case "gz":
		plain, err = gzip.NewReader(r)
	case "xz":
		plain, err = xz.ReaderConfig{DictCap: maxWindow}.NewReader(r)
	case "bz2":
		plain = bzip2.NewReader(r)
	case "zst":
		return u.unzstd(ctx, r)
	default:
		err = fmt.Errorf("got compression %q, allowed: gz, xz, zst, bz2", u.Compression)
	}
	return plain, func() {}, err
}

// Run expands a compressed file into another, empty one, with holes for zeros.
func (u Unpacking) Run(ctx context.Context, in, out *os.File) error {
	plain, end, err := u.decompressor(ctx, &counter{r: in, report: u.Report})
	var lack *program.Lack
	switch {
	case errors.As(err, &lack):
		return err
	case err != nil:
		return refuse("the file is no %s: %v", u.Compression, err)
	}
	defer end()
	err = spread(ctx, plain, &sparse{file: out, budget: u.Budget})
	if err == nil || ctx.Err() != nil || errors.As(err, new(*BombError)) || errors.As(err, new(*fetch.FullError)) || errors.As(err, new(*fs.PathError)) {
		return err
	}
	return refuse("the %s data is broken or cut off: %v", u.Compression, err)
}

// Copy copies a file into another, empty one, with holes for zeros.
func Copy(ctx context.Context, in, out *os.File) error {
	return spread(ctx, in, &sparse{file: out, budget: MaxSize})
}

// spread copies all of a reader.
func spread(ctx context.Context, plain io.Reader, w *sparse) error {
	b := make([]byte, chunk)
	for ctx.Err() == nil {
		n, readErr := fill(plain, b)
		if err := w.write(b[:n]); err != nil {
			return full(filepath.Dir(w.file.Name()), err)
		}
		if errors.Is(readErr, io.EOF) {
			return w.file.Truncate(w.offset) // makes the last hole
		}
		if readErr != nil {
			return readErr
		}
	}
	return context.Cause(ctx)
}

// fill reads until b is full or the reader fails. Unlike io.ReadFull it returns the reader's
// own error: io.ErrUnexpectedEOF is one of data that is cut off.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	return n, err
}

// counter counts what is read of a file.
type counter struct {
	r      io.Reader
	report func(int64)
	done   int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.report(c.done)
	return n, err
}

const (
	chunk = 1 << 20
	block = 64 << 10 // the smallest hole
)

var zeros [block]byte

// sparse writes a file and leaves holes where there are only zeros.
type sparse struct {
	file    *os.File
	budget  int64
	offset  int64
	written int64
}

func (s *sparse) write(b []byte) error {
	for len(b) > 0 {
		part := b[:min(len(b), block)]
		b = b[len(part):]
		if !bytes.Equal(part, zeros[:len(part)]) {
			if s.written += int64(len(part)); s.written > s.budget {
				return &BombError{s.budget}
			}
			if _, err := s.file.WriteAt(part, s.offset); err != nil {
				return err
			}
		}
		if s.offset += int64(len(part)); s.offset > MaxSize {
			return &BombError{MaxSize}
		}
	}
	return nil
}
