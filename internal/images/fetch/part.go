package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/images/sums"
)

// state is what a later call must know to resume, in a file beside the partial one.
type state struct {
	URL          string // that was asked for
	ETag         string `json:",omitempty"`
	LastModified string `json:",omitempty"`
}

// validator returns what If-Range names the version by, "" if the server tells none. A weak
// ETag does not do (RFC 9110, 13.1.5).
func (s state) validator() string {
	if s.ETag != "" && !strings.HasPrefix(s.ETag, "W/") {
		return s.ETag
	}
	return s.LastModified
}

func statePath(part string) string { return part + ".json" }

// FullError is a disk that has no room for a file.
type FullError struct {
	Dir     string
	Missing int64 // bytes that have yet to come and have no room; 0 if the file's length is not known
	Err     error // nil before a write was tried
}

// Error says where and how much.
func (e *FullError) Error() string {
	if e.Missing > 0 {
		return fmt.Sprintf("write to %s: the disk is full: %s more are needed", e.Dir, Bytes(e.Missing))
	}
	return fmt.Sprintf("write to %s: the disk is full", e.Dir)
}

// Unwrap returns the cause, which is always like ENOSPC.
func (e *FullError) Unwrap() error {
	if e.Err == nil {
		return unix.ENOSPC
	}
	return e.Err
}

// Hint says what to do.
func (e *FullError) Hint() string {
	return `"qnet image prune" removes images that no VM uses; the part that came is kept, and the same command goes on from there`
}

// Bytes returns a size for people, such as "1.5 GiB".
func Bytes(n int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	size, unit := float64(n), ""
	for _, u := range units {
		if size < 1<<10 {
			break
		}
		size, unit = size/(1<<10), u
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}

// download is one File.
type download struct {
	Fetcher
	state
	file   *os.File
	sums   *sums.Writer
	done   int64
	total  int64 // -1 if the server does not tell
	report func(done, total int64)
}

// File downloads into the file at path, goes on with what an earlier call left there if the
// server still has that version, and returns the checksums of the whole. It leaves what came
// also after an error. report is called often, with the bytes that are there and those that
// there will be, -1 if the server does not tell.
func (f Fetcher) File(ctx context.Context, from, path string, report func(done, total int64)) (*sums.Writer, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	d := &download{Fetcher: f, state: state{URL: from}, file: file, total: -1, report: report}
	if err := d.recall(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	err = f.repeatedly(ctx, func() (bool, error) {
		before := d.done
		err := d.once(ctx)
		return d.done > before, err
	})
	if err == nil {
		err = file.Sync()
	}
	return d.sums, errors.Join(err, file.Close())
}

// Forget removes a partial file and what File keeps beside it.
func Forget(path string) error {
	var errs []error
	for _, p := range []string{path, statePath(path)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// recall reads what an earlier call left, and computes its checksums.
func (d *download) recall() error {
	var old state
	text, err := os.ReadFile(statePath(d.file.Name()))
	if err != nil || json.Unmarshal(text, &old) != nil || old.URL != d.URL || old.validator() == "" {
		return d.restart()
	}
	d.state, d.sums = old, sums.NewWriter()
	d.done, err = io.Copy(d.sums, d.file)
	return err
}

// restart forgets what came.
func (d *download) restart() error {
	d.state, d.sums, d.done = state{URL: d.URL}, sums.NewWriter(), 0
	if err := d.file.Truncate(0); err != nil {
		return err
	}
	_, err := d.file.Seek(0, io.SeekStart)
	return err
}

// once sends one request, for the rest if a part is there.
func (d *download) once(ctx context.Context) error {
	ctx, watch := d.watch(ctx)
	defer watch.stop()
	header := http.Header{}
	if d.done > 0 && d.validator() == "" {
		if err := d.restart(); err != nil {
			return err
		}
	}
	if d.done > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
		header.Set("If-Range", d.validator())
	}
	response, err := d.get(ctx, d.URL, header, func(*http.Request, []*http.Request) error { return nil })
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if complete, err := d.accept(response); complete || err != nil {
		return err
	}
	if err := d.room(); err != nil {
		return err
	}
	if err := d.copy(watch.reader(response.Body)); err != nil {
		var full *FullError
		if errors.As(err, &full) {
			return err
		}
		return d.netError(ctx, d.URL, err)
	}
	if d.total >= 0 && d.done != d.total {
		return &NetError{d.URL, fmt.Errorf("%w: got %d of %d bytes", io.ErrUnexpectedEOF, d.done, d.total)}
	}
	return nil
}

// accept looks at the answer's head. It reports whether nothing is left to come.
func (d *download) accept(r *http.Response) (complete bool, err error) {
	switch r.StatusCode {
	case http.StatusPartialContent:
		begin, total := contentRange(r.Header.Get("Content-Range"))
		if begin != d.done {
			return false, errors.Join(&NetError{d.URL, fmt.Errorf("the server sent bytes from %d on, want from %d on", begin, d.done)}, d.restart())
		}
		d.total = total
		return false, nil
	case http.StatusRequestedRangeNotSatisfiable:
		if _, total := contentRange(r.Header.Get("Content-Range")); total == d.done && d.done > 0 {
			d.report(d.done, total)
			return true, nil
		}
		return false, errors.Join(&NetError{d.URL, fmt.Errorf("the server has another version of the file")}, d.restart())
	case http.StatusOK:
		if err := d.restart(); err != nil {
			return false, err
		}
		d.total = r.ContentLength
		d.ETag, d.LastModified = r.Header.Get("ETag"), r.Header.Get("Last-Modified")
		return false, d.remember()
	}
	return false, &HTTPError{d.URL, r.Status, r.StatusCode}
}

func (d *download) remember() error {
	text, err := json.Marshal(d.state)
	if err != nil {
		return err
	}
	return d.full(atomicfile.Write(statePath(d.file.Name()), text))
}

// contentRange reads "bytes 5-9/10" and "bytes */10"; -1 stands for what it does not tell.
func contentRange(text string) (begin, total int64) {
	span, size, _ := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, _, _ := strings.Cut(span, "-")
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return -1
		}
		return n
	}
	return number(first), number(size)
}

// room refuses a download that cannot fit, where the file system tells what it has.
func (d *download) room() error {
	var st unix.Statfs_t
	known := unix.Fstatfs(int(d.file.Fd()), &st) == nil
	if free := int64(st.Bavail) * st.Bsize; known && d.total-d.done > free {
		return &FullError{Dir: filepath.Dir(d.file.Name()), Missing: d.total - d.done - free}
	}
	return nil
}

const chunk = 256 << 10

// copy appends what comes.
func (d *download) copy(r io.Reader) error {
	b := make([]byte, chunk)
	for {
		n, err := r.Read(b)
		if n > 0 {
			written, writeErr := d.file.Write(b[:n])
			d.sums.Write(b[:written]) //nolint:errcheck // never fails
			d.done += int64(written)
			if writeErr != nil {
				return d.full(writeErr)
			}
			d.report(d.done, d.total)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// full makes a FullError of an error about a disk without room.
func (d *download) full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &FullError{Dir: filepath.Dir(d.file.Name()), Missing: max(d.total-d.done, 0), Err: err}
	}
	return err
}
