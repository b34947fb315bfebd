// Package sums reads the checksums that distributions publish beside their images, and
// computes those of a file while it is written. It opens no file and no connection.
package sums

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"path"
	"strings"

	"github.com/qnet-vm/qnet/internal/pattern"
)

// Algorithms of a Sum.
const (
	SHA256 = "sha256"
	SHA512 = "sha512"
)

// Sum is the checksum of a file. The zero Sum stands for none.
type Sum struct {
	Algorithm string // SHA256 or SHA512
	Hex       string // in lower case
}

// String returns the sum as it is written in a profile, such as "sha256:9f86...".
func (s Sum) String() string { return s.Algorithm + ":" + s.Hex }

// New returns a sum of an algorithm's name and hexadecimal digits of either case. The error
// says what is allowed.
func New(algorithm, digits string) (Sum, error) {
	s := Sum{strings.ToLower(algorithm), strings.ToLower(digits)}
	want := map[string]int{SHA256: sha256.Size, SHA512: sha512.Size}[s.Algorithm]
	if want == 0 {
		return Sum{}, fmt.Errorf("checksum: got algorithm %q, allowed: sha256, sha512", algorithm)
	}
	if raw, err := hex.DecodeString(s.Hex); err != nil || len(raw) != want {
		return Sum{}, fmt.Errorf("checksum: got %q, allowed for %s: %d hexadecimal digits", digits, s.Algorithm, 2*want)
	}
	return s, nil
}

// Parse is New of a text such as "sha256:9f86...".
func Parse(text string) (Sum, error) {
	algorithm, digits, found := strings.Cut(text, ":")
	if !found {
		return Sum{}, fmt.Errorf("checksum: got %q, allowed: sha256:HEX, sha512:HEX", text)
	}
	return New(algorithm, digits)
}

var (
	// ErrNotListed is wrapped by the error of Find for a file without a checksum.
	ErrNotListed = errors.New("the published checksums do not list it")

	gnuLine = pattern.Of(`^\\?([0-9a-fA-F]{64}|[0-9a-fA-F]{128})(?:\s+[ *]?(\S.*))?$`) // sha256sum(1)
	bsdLine = pattern.Of(`^(SHA256|SHA512) \((.+)\) = ([0-9a-fA-F]+)$`)                // sha256sum --tag
)

// Find returns the checksum of a file by its name out of published text: lines as
// sha256sum(1) or sha512sum(1) writes them, with or without --tag, between others, such as
// those of an OpenPGP message, which it ignores. Where the text is of this file alone, single,
// it may name the file differently, or not at all, but must hold exactly one checksum. The
// strongest algorithm wins; two different sums of one name are an error.
func Find(text []byte, name string, single bool) (Sum, error) {
	found := map[string]Sum{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		of, sum := line(strings.TrimSpace(lines.Text()))
		if sum == (Sum{}) || !single && path.Base(of) != name {
			continue
		}
		if other, twice := found[sum.Algorithm]; twice && other != sum {
			return Sum{}, fmt.Errorf("read checksum of %q: two different ones are published, %s and %s", name, other, sum)
		}
		found[sum.Algorithm] = sum
	}
	for _, algorithm := range []string{SHA512, SHA256} {
		if sum, ok := found[algorithm]; ok {
			return sum, nil
		}
	}
	return Sum{}, fmt.Errorf("read checksum of %q: %w", name, errors.Join(lines.Err(), ErrNotListed))
}

// line returns the file's name and the checksum of a line, zero for another line.
func line(text string) (name string, sum Sum) {
	if m := bsdLine().FindStringSubmatch(text); m != nil {
		sum, err := New(m[1], m[3])
		if err != nil {
			return "", Sum{}
		}
		return m[2], sum
	}
	m := gnuLine().FindStringSubmatch(text)
	if m == nil {
		return "", Sum{}
	}
	algorithm := SHA256
	if len(m[1]) == 2*sha512.Size {
		algorithm = SHA512
	}
	return m[2], Sum{algorithm, strings.ToLower(m[1])}
}

// Writer computes both checksums of what is written to it. The zero Writer is not usable.
type Writer struct{ short, long hash.Hash }

// NewWriter returns a Writer to which nothing was written.
func NewWriter() *Writer { return &Writer{sha256.New(), sha512.New()} }

// Write never fails.
func (w *Writer) Write(b []byte) (int, error) {
	w.short.Write(b)
	return w.long.Write(b)
}

// Of returns the checksum by an algorithm of what was written.
func (w *Writer) Of(algorithm string) Sum {
	h := w.short
	if algorithm == SHA512 {
		h = w.long
	}
	return Sum{algorithm, hex.EncodeToString(h.Sum(nil))}
}

// Short computes the SHA-256 alone of what is written to it. Its Write never fails.
type Short struct{ hash.Hash }

// NewShort returns a Short to which nothing was written.
func NewShort() Short { return Short{sha256.New()} }

// Sum returns the checksum of what was written.
func (s Short) Sum() Sum { return Sum{SHA256, hex.EncodeToString(s.Hash.Sum(nil))} }
