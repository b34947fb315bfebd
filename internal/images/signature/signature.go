// Package signature verifies OpenPGP signatures of checksums and of images by gpgv(1), the
// program with which Debian's apt verifies. It runs in a jail: what it reads comes from
// outside. A library for that would make qnet larger than it may be.
package signature

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/qnet-vm/qnet/internal/jail"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/tail"
)

const (
	mostKeys   = 16 << 20 // bytes of a file of keys; Arch Linux's whole keyring has 1 MiB
	mostText   = 1 << 20  // bytes of a signed text
	gpgvMemory = 1 << 30
	gpgvTime   = 10 * time.Minute // of processor time; it hashes 10 GiB in a minute
)

// ErrNoProgram is wrapped by the error for a host without gpgv.
var ErrNoProgram = &program.Lack{
	What:   "the program gpgv is not installed, which verifies signatures",
	Remedy: "install it: Debian, Ubuntu: apt install gpgv; Fedora: dnf install gnupg2; Arch: pacman -S gnupg",
}

// ErrBad is wrapped by the error for a signature that none of the keys made, or not of this.
var ErrBad = errors.New("no good signature")

// Verifier runs gpgv.
type Verifier struct {
	Search     string              // the value of PATH
	Dir        string              // where it may make files, which have no name
	Credential *syscall.Credential // that gpgv runs as; nil for the caller's own, which must not be root
}

// Text returns the text that a key of the file made the signature of: for a detached signature
// text itself, for a cleartext-signed message (RFC 9580, section 7) what that says, whatever
// text is. Like gpgv, it asks not whether a key has expired: the file's owner removes old keys.
func (v Verifier) Text(ctx context.Context, keys string, signature, text []byte) ([]byte, error) {
	if bytes.HasPrefix(signature, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		var said bytes.Buffer
		err := v.run(ctx, keys, signature, nil, &said)
		if err == nil && said.Len() > mostText {
			err = fmt.Errorf("%w: a text of %d bytes", ErrBad, said.Len())
		}
		if err != nil {
			return nil, err
		}
		return said.Bytes(), nil
	}
	data, err := v.file(text)
	if err != nil {
		return nil, err
	}
	defer data.Close()
	if err := v.run(ctx, keys, signature, data, io.Discard); err != nil {
		return nil, err
	}
	return text, nil
}

// File verifies a detached signature of a file.
func (v Verifier) File(ctx context.Context, keys string, signature []byte, f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return v.run(ctx, keys, signature, f, io.Discard)
}

// run runs gpgv on a signature, and the data that it is of if it is detached.
func (v Verifier) run(ctx context.Context, keys string, signature []byte, data *os.File, out io.Writer) error {
	path, ok := jail.Find("gpgv", v.Search)
	if !ok {
		return ErrNoProgram
	}
	ring, err := readKeys(keys)
	if err != nil {
		return err
	}
	var read []*os.File
	defer func() {
		for _, f := range read {
			f.Close()
		}
	}()
	for _, content := range [][]byte{ring, signature} {
		f, err := v.file(content)
		if err != nil {
			return err
		}
		read = append(read, f)
	}
	args := []string{"--quiet", "--homedir", "/nonexistent", "--enable-special-filenames", "--keyring", jail.FD(0), "--output", "-", "--", "-&4"}
	files := read
	if data != nil {
		args = append(args, "-&5") // the descriptor behind those of keys and signature
		files = append(files[:2:2], data)
	}
	words := &tail.Writer{}
	err = jail.Run(ctx, jail.Command{
		Path: path, Args: args, Read: files, Credential: v.Credential,
		Limits: jail.Limits{Memory: gpgvMemory, CPU: gpgvTime}, Stdout: out, Stderr: words,
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w by a key of %s: %w%s", ErrBad, keys, err, tail.Suffix(words.String()))
	}
	return err
}

// file returns an unnamed file of its own with the content, which every user may read who
// gets it.
func (v Verifier) file(content []byte) (*os.File, error) {
	f, err := os.CreateTemp(v.Dir, "verify")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(content)
	_, seekErr := f.Seek(0, io.SeekStart)
	if err = errors.Join(err, seekErr, f.Chmod(0o444), os.Remove(f.Name())); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readKeys returns the keys of a file as gpgv wants them: without armor.
func readKeys(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, mostKeys))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if !bytes.Contains(b, []byte(beginKeys)) {
		return b, nil
	}
	ring, err := unarmor(b)
	if err != nil {
		return nil, fmt.Errorf("read keys %s: %w", file, err)
	}
	return ring, nil
}

const beginKeys = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// unarmor returns the bytes of all blocks of keys in a text (RFC 9580, section 6.2). It does
// not check their CRC: gpgv reads the keys.
func unarmor(text []byte) ([]byte, error) {
	var ring, block []byte
	inside, body := false, false
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		switch {
		case string(line) == beginKeys:
			inside, body, block = true, false, nil
		case !inside:
		case bytes.HasPrefix(line, []byte("-----END ")):
			raw, err := base64.StdEncoding.DecodeString(string(block))
			if err != nil {
				return nil, err
			}
			ring, inside = append(ring, raw...), false
		case len(line) == 0:
			body = true // the headers end
		case body && line[0] != '=':
			block = append(block, line...)
		}
	}
	return ring, nil
}
