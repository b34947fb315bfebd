package disks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/lockfile"
)

// Digests finds the digests of base files, and remembers them: a base has gigabytes.
type Digests struct {
	Ledger string // absolute path of the file that remembers; "" for none
	Unread bool   // no base is read and nothing is remembered: what is not known stays ""

	Context context.Context   // ends a wait for another process that reads the base; needed with a Ledger
	Reads   func(path string) // is called before a file is read, which takes seconds; may be nil
}

// entry is what the ledger has of a base, by its path.
type entry struct {
	Stamp  string `json:"stamp"`
	Digest string `json:"digest"`
}

// Of returns the digest of an open file, such as "sha256:" and 64 hex digits. It is "" if it
// is not known and Unread is set. Of several processes that want it at once, one reads the
// file.
func (d Digests) Of(f *os.File) (string, error) {
	digest, _, err := d.known(f)
	if err != nil || digest != "" || d.Unread {
		return digest, err
	}
	if d.Ledger == "" {
		return d.read(f)
	}
	lock, err := lockfile.Wait(d.Context, d.Ledger+".lock")
	if err != nil {
		return "", err
	}
	digest, err = d.readOnce(f)
	return digest, errors.Join(err, lock.Release())
}

// Trust remembers the digest of a file that its caller has just verified.
func (d Digests) Trust(f *os.File, digest string) error {
	if had, _, err := d.known(f); err != nil || had == digest || d.Ledger == "" {
		return err
	}
	lock, err := lockfile.Wait(d.Context, d.Ledger+".lock")
	if err != nil {
		return err
	}
	_, ledger, err := d.known(f)
	if err == nil {
		err = d.remember(ledger, f, digest)
	}
	return errors.Join(err, lock.Release())
}

// readOnce reads the file unless another process has done so meanwhile. The caller holds the
// lock.
func (d Digests) readOnce(f *os.File) (string, error) {
	digest, ledger, err := d.known(f)
	if err != nil || digest != "" {
		return digest, err
	}
	before, err := stamp(f)
	if err == nil {
		digest, err = d.read(f)
	}
	if err != nil {
		return "", err
	}
	if after, err := stamp(f); err != nil || after != before {
		return digest, err // it was written to meanwhile: the next run reads it again
	}
	return digest, d.remember(ledger, f, digest)
}

// remember writes the ledger anew, with the file's digest. The caller holds the lock.
func (d Digests) remember(ledger map[string]entry, f *os.File, digest string) error {
	now, err := stamp(f)
	if err != nil {
		return err
	}
	for path := range ledger {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			delete(ledger, path)
		}
	}
	ledger[f.Name()] = entry{now, digest}
	text, err := json.MarshalIndent(ledger, "", "  ")
	if err == nil {
		err = atomicfile.Write(d.Ledger, append(text, '\n'))
	}
	return err
}

func (d Digests) read(f *os.File) (string, error) {
	if d.Reads != nil {
		d.Reads(f.Name())
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("read base %q: %w", f.Name(), err)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// known returns the digest of a file that has not changed since it was read, and the whole
// ledger. A ledger that is damaged is begun anew.
func (d Digests) known(f *os.File) (string, map[string]entry, error) {
	ledger := map[string]entry{}
	if d.Ledger == "" {
		return "", ledger, nil
	}
	text, err := os.ReadFile(d.Ledger)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("read digests of bases: %w", err)
	}
	if json.Unmarshal(text, &ledger) != nil || ledger == nil {
		ledger = map[string]entry{}
	}
	now, err := stamp(f)
	if e, ok := ledger[f.Name()]; ok && e.Stamp == now {
		return e.Digest, ledger, err
	}
	return "", ledger, err
}

// stamp changes with the content of a file: it holds what the kernel notes at each write
// (statx(2)), among it the time of the last change, which no program can set.
func stamp(f *os.File) (string, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st); err != nil {
		return "", fmt.Errorf("look at base %q: %w", f.Name(), err)
	}
	return fmt.Sprintf("%d:%d inode %d of %d bytes, %d.%09d, %d.%09d", st.Dev_major, st.Dev_minor, st.Ino, st.Size, st.Mtime.Sec, st.Mtime.Nsec, st.Ctime.Sec, st.Ctime.Nsec), nil
}
