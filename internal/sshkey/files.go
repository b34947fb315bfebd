package sshkey

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/internal/reachable"
)

// maxFile bounds a file of public keys, in bytes.
const maxFile = 64 << 10

// Ensure returns the key in a file. It makes the file, and its directory for the caller
// alone, if it is not there. The public half stands beside it in a file with ".pub", for
// users to copy; nothing reads it. Call it with the rights of the user that the key is
// for. Of two processes that do so at once, both get the key of the first.
func Ensure(path, kind, comment string) (Pair, error) {
	pair, err := Load(path, comment)
	if !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	if err := perm.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Pair{}, fmt.Errorf("keep SSH key: %w", err)
	}
	if pair, err = New(kind, comment); err != nil {
		return Pair{}, err
	}
	if err := store(path, pair.Private, perm.Private); errors.Is(err, fs.ErrExist) {
		return Load(path, comment)
	} else if err != nil {
		return Pair{}, fmt.Errorf("keep SSH key: %w", err)
	}
	if err := store(path+".pub", pair.Public+"\n", publicBits); err != nil && !errors.Is(err, fs.ErrExist) {
		return Pair{}, fmt.Errorf("keep SSH key: %w", err)
	}
	return pair, nil
}

// publicBits are the permissions of a public key.
const publicBits fs.FileMode = 0o644

// store makes a whole file of a name that is free, and else returns an error that is
// fs.ErrExist.
func store(path, text string, bits fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = perm.Set(f, bits); err == nil {
		_, err = f.WriteString(text)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	err = os.Link(f.Name(), path)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) { // no hard links there, such as on FAT
		return os.Rename(f.Name(), path)
	}
	return err
}

// Load reads a key that Ensure made. The error wraps fs.ErrNotExist where there is none.
func Load(path, comment string) (Pair, error) {
	text, err := readFile(path)
	if err != nil {
		return Pair{}, fmt.Errorf("read SSH key: %w", err)
	}
	public, err := publicOf(text, comment)
	if err != nil {
		return Pair{}, fmt.Errorf("read SSH key %s: %w; remove it, and qnet makes another one", path, err)
	}
	return Pair{Private: text, Public: public}, nil
}

// FromFile returns the public keys of a file, one a line, as lines of Parse. Lines that are
// empty or begin with "#" are left out.
func FromFile(path string) ([]string, error) {
	f, err := reachable.OpenRegular(path)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	defer f.Close()
	return FromOpen(f)
}

// FromOpen is FromFile for a regular file that is open.
func FromOpen(f *os.File) ([]string, error) {
	path := f.Name()
	text, err := readOpen(f)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	var keys []string
	if strings.Contains(text, "PRIVATE KEY") {
		_, err := Parse(text)
		return nil, fmt.Errorf("read public key %s: %w", path, err)
	}
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l == "" || l[0] == '#' {
			continue
		}
		key, err := Parse(l)
		if err != nil {
			return nil, fmt.Errorf("read public key %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read public key %s: it has none", path)
	}
	return keys, nil
}

// FromHome returns the public keys ~/.ssh/*.pub of a home directory, sorted by their files'
// names. It leaves out files that hold none, such as certificates.
func FromHome(home string) []string {
	var keys []string
	for _, path := range HomeFiles(home) {
		if list, err := FromFile(path); err == nil {
			keys = Merge(keys, slices.DeleteFunc(list, func(k string) bool { return isCertificate(strings.Fields(k)[0]) })...)
		}
	}
	return keys
}

// HomeFiles are the files of FromHome, which guests are let in by where a profile names no keys.
func HomeFiles(home string) []string {
	if home == "" {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(globQuote(home), ".ssh", "*.pub"))
	if err != nil {
		return nil
	}
	slices.Sort(paths)
	return paths
}

// globQuote quotes a path for filepath.Glob.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// readFile reads a regular file, as far as maxFile.
func readFile(path string) (string, error) {
	f, err := reachable.OpenRegular(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readOpen(f)
}

func readOpen(f *os.File) (string, error) {
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = &fs.PathError{Op: "read", Path: f.Name(), Err: fmt.Errorf("it is larger than %d bytes", maxFile)}
	}
	return string(b), err
}
