package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/images/convert"
	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/images/sums"
	"github.com/qnet-vm/qnet/internal/lockfile"
)

// SumError is a download that is not what was published.
type SumError struct {
	Source    string
	Want, Got sums.Sum
	Where     string // URL of the published checksum; "" if the user gave it
}

// Error names both checksums.
func (e *SumError) Error() string {
	where := "is asked for"
	if e.Where != "" {
		where = "is published at " + e.Where
	}
	return fmt.Sprintf("pull %s: the download has checksum %s, but %s %s; nothing of it is kept", e.Source, e.Got, e.Want, where)
}

// Hint says what to do.
func (e *SumError) Hint() string {
	if e.Where != "" {
		return "a mirror may be behind, or just be changing: try again later; if it stays so, somebody may have changed the image on the way"
	}
	return "compare the checksum with the one that the image's maker publishes: the image may have been replaced by a newer one, or have been changed on the way"
}

// pulling is one pull of a URL.
type pulling struct {
	Store
	Image
	report Progress
	part   string // path of what is downloaded
	trust  string // Record.Signature
}

// pull makes the image be there, under its lock. With fresh it looks whether a newer one is
// published. It reports whether the cache did not have it.
func (s Store) pull(ctx context.Context, i Image, report Progress, fresh bool) (Local, bool, error) {
	lock, waited, err := s.lock(ctx, i, report)
	if err != nil {
		return Local{}, false, err
	}
	defer lock.Release()
	local, err := s.find(i)
	if err == nil && (waited || !fresh) {
		return local, false, nil // another process has just pulled it
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Local{}, false, err
	}
	p := &pulling{Store: s, Image: i, report: report, part: s.file("parts", i.key())}
	if i.File != "" {
		local, err = p.adopt(ctx)
		return local, err == nil, err
	}
	return p.download(ctx, local)
}

// lock takes the image's lock, and reports whether it waited for it.
func (s Store) lock(ctx context.Context, i Image, report Progress) (*lockfile.Lock, bool, error) {
	file := s.file("locks", i.key())
	lock, err := lockfile.Try(file)
	if !errors.Is(err, lockfile.ErrHeld) {
		return lock, false, err
	}
	report(Event{Stage: Waiting, Image: i.Source(), Total: -1})
	lock, err = lockfile.Wait(ctx, file)
	return lock, true, err
}

// download gets the image from its URL, unless have, which may be zero, is what is published.
func (p *pulling) download(ctx context.Context, have Local) (Local, bool, error) {
	want, err := p.published(ctx)
	if err != nil {
		return Local{}, false, fmt.Errorf("pull %s: %w", p.Source(), err)
	}
	if r, ok := p.verified(want); ok {
		return p.local(r), false, p.pointTo(ref{Source: p.Source(), Digest: r.Digest})
	}
	event := Event{Stage: Downloading, Image: p.Source(), From: p.URL}
	got, err := p.Fetch.File(ctx, p.URL, p.part, func(done, total int64) {
		event.Done, event.Total = done, total
		p.report(event)
	})
	if err != nil {
		return Local{}, false, fmt.Errorf("pull %s: %w", p.Source(), err)
	}
	if want, err = p.verify(ctx, want, got); err != nil {
		return Local{}, false, errors.Join(err, fetch.Forget(p.part))
	}
	if err := p.signedImage(ctx); err != nil {
		return Local{}, false, errors.Join(err, fetch.Forget(p.part))
	}
	local, err := p.accept(ctx, Record{Published: want.String(), Sums: p.Sums, Signature: p.trust}, got.Of(sums.SHA256))
	if err != nil {
		var bad *convert.UntrustedError
		var bomb *convert.BombError
		if errors.As(err, &bad) || errors.As(err, &bomb) { // another try gives the same
			err = errors.Join(err, fetch.Forget(p.part))
		}
		return Local{}, false, fmt.Errorf("pull %s: %w", p.Source(), err)
	}
	return local, local.Digest != have.Digest, nil
}

// mostSums bounds a file of checksums: Debian's and Fedora's have a few KiB.
const mostSums = 1 << 20

// published returns the checksum that the download must have.
func (p *pulling) published(ctx context.Context) (sums.Sum, error) {
	if p.Sum != (sums.Sum{}) {
		return p.Sum, nil
	}
	p.report(Event{Stage: Looking, Image: p.Source(), From: p.Sums, Total: -1})
	text, err := p.Fetch.Text(ctx, p.Sums, mostSums)
	if err != nil {
		return sums.Sum{}, err
	}
	if text, err = p.signedSums(ctx, text); err != nil {
		return sums.Sum{}, err
	}
	alone := strings.HasPrefix(p.Sums, p.URL+".")
	sum, err := sums.Find(text, nameOf(p.URL), alone)
	if err != nil {
		return sums.Sum{}, fmt.Errorf("%w; they are at %s", err, p.Sums)
	}
	return sum, nil
}

// nameOf returns the name of a URL's file.
func nameOf(from string) string {
	if u, err := url.Parse(from); err == nil {
		return path.Base(u.Path)
	}
	return path.Base(from)
}

// verified returns the image in the cache that was made of a download with that checksum.
func (p *pulling) verified(sum sums.Sum) (Record, bool) {
	records, err := p.records()
	if err != nil {
		return Record{}, false
	}
	for _, r := range records {
		if r.Published == sum.String() && r.Name == p.Source() {
			_, err := p.byDigest(r.Digest)
			return r, err == nil
		}
	}
	return Record{}, false
}

// verify compares the checksum of the download with the published one. If that has changed
// meanwhile, because a new image came out, the new one counts.
func (p *pulling) verify(ctx context.Context, want sums.Sum, got *sums.Writer) (sums.Sum, error) {
	if got.Of(want.Algorithm) == want {
		return want, nil
	}
	if again, err := p.published(ctx); err == nil && got.Of(again.Algorithm) == again {
		return again, nil
	}
	return want, &SumError{p.Source(), want, got.Of(want.Algorithm), p.Sums}
}

// accept makes a verified download an image of the cache.
func (p *pulling) accept(ctx context.Context, r Record, digest sums.Sum) (Local, error) {
	in, err := os.Open(p.part)
	if err != nil {
		return Local{}, err
	}
	defer in.Close()
	w := &work{pulling: p, in: in}
	defer w.clean()
	file, size, err := w.qcow2(ctx, convert.Compression(nameOf(p.URL)))
	if err != nil {
		return Local{}, err
	}
	if file != p.part {
		if digest, err = hashFile(file, p.reporter(Hashing)); err != nil {
			return Local{}, err
		}
	}
	r.Digest, r.Size, r.Format = digest.String(), size, w.format
	local, err := p.keep(file, r)
	return local, errors.Join(err, fetch.Forget(p.part))
}

// reporter returns a function that reports a stage.
func (p *pulling) reporter(s Stage) func(done, total int64) {
	return func(done, total int64) { p.report(Event{Stage: s, Image: p.Source(), Done: done, Total: total}) }
}

// keep moves a finished file into blobs, and points the image's name to it.
func (p *pulling) keep(file string, r Record) (Local, error) {
	r.Name, r.Title, r.URL, r.User, r.Firmware, r.Pulled = p.Source(), p.Title, p.URL, p.Image.User, p.Firmware, time.Now().UTC().Truncate(time.Second)
	if err := finish(file); err != nil {
		return Local{}, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return Local{}, err
	}
	r.Bytes, r.Modified = info.Size(), info.ModTime().UnixNano()
	local := p.local(r)
	if err := writeJSON(strings.TrimSuffix(local.Path, ".qcow2")+".json", r); err != nil {
		return Local{}, err
	}
	if err := os.Rename(file, local.Path); err != nil {
		return Local{}, err
	}
	if err := p.pointTo(ref{Source: p.Source(), Digest: r.Digest}); err != nil {
		return Local{}, err
	}
	p.report(Event{Stage: Ready, Image: p.Source(), Done: r.Bytes, Total: r.Bytes})
	return local, nil
}

// readOnly are the permissions of an image.
const readOnly = 0o444

// finish makes a file read-only and has it on the disk.
func finish(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(readOnly), f.Sync(), f.Close())
}

// pointTo makes the image's name stand for an image of the cache.
func (p *pulling) pointTo(r ref) error {
	if p.File != "" {
		stamp, err := stampOf(p.File)
		if err != nil {
			return err
		}
		r.Stamp = stamp
	}
	return writeJSON(p.file("refs", p.key()+".json"), r)
}

// hashFile returns the SHA-256 of a file.
func hashFile(file string, report func(done, total int64)) (sums.Sum, error) {
	f, err := os.Open(file)
	if err != nil {
		return sums.Sum{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sums.Sum{}, err
	}
	h := sums.NewShort()
	for done := int64(0); ; report(done, info.Size()) {
		n, err := io.CopyN(h, f, hashChunk)
		if done += n; errors.Is(err, io.EOF) {
			return h.Sum(), nil
		}
		if err != nil {
			return sums.Sum{}, fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
	}
}

const hashChunk = 16 << 20
