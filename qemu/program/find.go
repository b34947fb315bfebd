// Package program finds the QEMU program, asks it for its version, and says what keeps it
// from being started.
package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/pattern"
	"github.com/qnet-vm/qnet/qemu/tail"
)

const (
	binaryName   = "qemu-system-x86_64"
	probeTimeout = 10 * time.Second
)

var (
	// ErrNotFound is wrapped by the error of Find when there is no QEMU.
	ErrNotFound = errors.New("not found")
	// ErrTooOld is wrapped by errors about a QEMU below [MinVersion].
	ErrTooOld = errors.New("too old")

	// otherPlaces is where distributions keep QEMU outside PATH.
	otherPlaces = []string{"/usr/bin/" + binaryName, "/usr/libexec/qemu-kvm"}

	versionText = pattern.Of(`version (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?`)
)

// MinVersion is the first QEMU that takes JSON for every option used here.
var MinVersion = Version{Major: 7, Minor: 2}

// Version is the version of a QEMU binary.
type Version struct{ Major, Minor, Micro int }

// String returns the version as QEMU writes it, for example "7.2.22".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// Check returns an error wrapping ErrTooOld for a version below MinVersion.
func (v Version) Check() error {
	if v.Major > MinVersion.Major || v.Major == MinVersion.Major && v.Minor >= MinVersion.Minor {
		return nil
	}
	return fmt.Errorf("QEMU %s is %w: qnet needs %d.%d or newer", v, ErrTooOld, MinVersion.Major, MinVersion.Minor)
}

// Environment is all that QEMU gets: variables such as QEMU_MODULE_DIR or LD_PRELOAD could
// make it load code.
func Environment() []string { return []string{"PATH=/usr/bin:/bin", "LANG=C", "LC_ALL=C"} }

// Find returns the absolute path of the QEMU binary: the override if there is
// one, a path or a name looked up in path (the value of $PATH), and else
// qemu-system-x86_64 there or in the usual places. Relative directories in
// path are ignored.
func Find(path, override string) (string, error) {
	if strings.ContainsRune(override, filepath.Separator) {
		abs, err := filepath.Abs(override)
		if err != nil {
			return "", fmt.Errorf("find QEMU %q: %w", override, err)
		}
		if err := executable(abs); err != nil {
			return "", fmt.Errorf("find QEMU: %w", err)
		}
		return abs, nil
	}
	name, others := override, []string(nil)
	if name == "" {
		name, others = binaryName, otherPlaces
	}
	var candidates []string
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			candidates = append(candidates, filepath.Join(dir, name))
		}
	}
	for _, candidate := range append(candidates, others...) {
		if executable(candidate) == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("find QEMU: %q %w in PATH", name, ErrNotFound)
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%q %w", path, ErrNotFound)
	case err != nil:
		return err
	case info.IsDir() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%q is not a program: %w", path, os.ErrPermission)
	}
	return nil
}

// Probe asks the binary for its version; below [MinVersion] the version comes
// with an error wrapping [ErrTooOld].
func Probe(ctx context.Context, binary string) (Version, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-version")
	cmd.Env = Environment()
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	lines := &tail.Writer{}
	cmd.Stdout, cmd.Stderr = lines, lines
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return Version{}, fmt.Errorf("probe %q: %w%s", binary, err, lines.Suffix())
	}
	v, err := parseVersion([]byte(lines.String()))
	if err != nil {
		return v, fmt.Errorf("probe %q: %w", binary, err)
	}
	return v, v.Check()
}

func parseVersion(text []byte) (Version, error) {
	m := versionText().FindSubmatch(text)
	if m == nil {
		first, _, _ := bytes.Cut(text, []byte("\n"))
		return Version{}, fmt.Errorf("no version in %q", legible.Text(string(first)))
	}
	var n [3]int
	for i, digits := range m[1:] {
		n[i], _ = strconv.Atoi(string(digits)) // up to four digits, or none for micro
	}
	return Version{Major: n[0], Minor: n[1], Micro: n[2]}, nil
}
