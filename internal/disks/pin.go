package disks

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// Pin is what an overlay rests on.
type Pin struct {
	Path   string `json:"path"`            // absolute, of the base
	Format string `json:"format"`          // Raw or Qcow2, never probed
	Digest string `json:"digest"`          // "sha256:" and hex digits; "" before it is known
	Image  string `json:"image,omitempty"` // what the profile calls it, "" for a plain file
}

// note returns the pin as it stands in an overlay, nil for a disk without a base.
func (p Pin) note() ([]byte, error) {
	if p.Path == "" {
		return nil, nil
	}
	return json.Marshal(p)
}

// size returns the size of the base's disk, in bytes.
func (p Pin) size(base *os.File) (int64, error) {
	size, err := sizeAs(base, p.Format)
	if err != nil {
		return 0, &Error{p.Path, "as a base: " + err.Error(), "", err}
	}
	return size, nil
}

// PinOf returns what an overlay rests on, and whether it says so. A missing file says nothing.
func PinOf(path string) (pin Pin, pinned bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return pin, false, nil
	}
	if err != nil {
		return pin, false, fmt.Errorf("open disk: %w", err)
	}
	defer f.Close()
	return pinIn(f)
}

func pinIn(f *os.File) (pin Pin, pinned bool, err error) {
	note, err := qcow2.Note(f)
	if err != nil || note == nil {
		return pin, false, err
	}
	if err := json.Unmarshal(note, &pin); err != nil {
		return pin, false, fmt.Errorf("read pin of %q: %w", f.Name(), err)
	}
	return pin, pin.Path != "", nil
}

// checkPin returns what the overlay rests on, if that is the base it gets.
func (d Disk) checkPin(f, base *os.File, digests Digests) (Pin, error) {
	pin, pinned, err := pinIn(f)
	switch {
	case err != nil:
		return pin, err
	case !pinned:
		return pin, &Error{d.File, "it is no overlay that qnet made, so what it rests on is not known", "leave out base, or name another file", nil}
	}
	want := d.Base.Digest
	if want == "" {
		if want, err = digests.Of(base); err != nil {
			return pin, err
		}
	}
	switch {
	case want == "": // it was not asked for
	case pin.Digest != want:
		return pin, &Error{
			d.File, fmt.Sprintf("its base %q is not the one it was made on (%s, now %s): the guest would see a mixture of both", d.Base.Path, short(pin.Digest), short(want)),
			fmt.Sprintf("put back the base as it was; or remove %s, and what the guest has written, to begin anew", d.File), ErrOtherBase,
		}
	case pin.Format != d.Base.Format:
		return pin, &Error{d.File, fmt.Sprintf("its base was %s when it was made, and is named %s now", pin.Format, d.Base.Format), fmt.Sprintf("say base_format = %q", pin.Format), nil}
	}
	return pin, nil
}

// ErrOtherBase is wrapped by the error for an overlay whose base was changed or replaced.
var ErrOtherBase = errors.New("another base")

// short shortens a digest for people.
func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }
