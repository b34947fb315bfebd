package firmware

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// maxVars bounds a file of variables, in bytes: QEMU's two flash chips have 8 MiB together
// (pc_system_flash_map in hw/i386/pc_sysfw.c), and qcow2 adds little.
const maxVars = 16 << 20

// VarsError tells that a VM's variables cannot be used.
type VarsError struct {
	Path string
	Msg  string
}

// Error names the file and what is wrong with it.
func (e *VarsError) Error() string { return fmt.Sprintf("UEFI variables %q: %s", e.Path, e.Msg) }

// Hint says what the user can do.
func (e *VarsError) Hint() string {
	return "put a copy of the file back, or remove it: the next run then makes new variables, without the boot entries and keys that the guest stored"
}

// OpenVars opens a VM's variables for QEMU, for reading and writing. If there are none at
// the path, it makes them of the firmware's template, with mode 0600: a reader sees all of
// them or none. It returns a *VarsError for variables with which the firmware cannot go on.
// The caller closes the file, and keeps others from calling it for the same path meanwhile.
func OpenVars(path string, f Firmware) (*os.File, error) {
	template, err := readTemplate(f.Vars.Path)
	if err != nil {
		return nil, fmt.Errorf("read template of UEFI variables: %w", err)
	}
	vars, err := open(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path, template); err != nil {
			return nil, fmt.Errorf("make UEFI variables: %w", err)
		}
		vars, err = open(path, os.O_RDWR)
	}
	if err != nil {
		return nil, fmt.Errorf("open UEFI variables: %w", err)
	}
	if err := check(vars, template, f.Vars); err != nil {
		return nil, errors.Join(err, vars.Close())
	}
	return vars, nil
}

// CheckVars returns the error by which OpenVars would refuse the variables at a path, and
// changes nothing. It wraps fs.ErrNotExist where there are none yet.
func CheckVars(path string, f Firmware) error {
	vars, err := open(path, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open UEFI variables: %w", err)
	}
	defer vars.Close()
	template, err := readTemplate(f.Vars.Path)
	if err != nil {
		return fmt.Errorf("read template of UEFI variables: %w", err)
	}
	return check(vars, template, f.Vars)
}

// open refuses a link and waits for no FIFO.
func open(path string, flags int) (*os.File, error) {
	return os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

func readTemplate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxVars+1))
	if err == nil && len(b) > maxVars {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxVars)
	}
	return b, err
}

// create writes the variables to the disk before they get their name.
func create(path string, template []byte) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a run that was killed
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(template)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

// The header of a firmware volume (Platform Initialization Specification, volume 3,
// EFI_FIRMWARE_VOLUME_HEADER): 16 bytes of zeros, the GUID of the volume's format, its
// length, "_FVH", attributes, the header's own length and checksum.
const (
	volumeHeader = 72
	signature    = "_FVH"
	signatureAt  = 40
)

// check compares what stays the same while a guest writes variables.
func check(vars *os.File, template []byte, f File) error {
	bad := func(format string, args ...any) error {
		return &VarsError{Path: vars.Name(), Msg: fmt.Sprintf(format, args...)}
	}
	info, err := vars.Stat()
	if err != nil {
		return fmt.Errorf("look at UEFI variables: %w", err)
	}
	if !info.Mode().IsRegular() {
		return bad("it is no regular file")
	}
	if f.Format == "qcow2" {
		return checkImage(vars, template, bad)
	}
	if info.Size() != int64(len(template)) {
		return bad("it has %d bytes, and those of %s have %d: it was cut, or made for another firmware", info.Size(), f.Path, len(template))
	}
	if len(template) < volumeHeader {
		return fmt.Errorf("template %s holds no UEFI variables", f.Path)
	}
	head := make([]byte, volumeHeader)
	if _, err := vars.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read UEFI variables %q: %w", vars.Name(), err)
	}
	if string(head[signatureAt:signatureAt+len(signature)]) != signature || !bytes.Equal(head[:signatureAt], template[:signatureAt]) {
		return bad("it does not begin as those of %s do: it was damaged, or made for another firmware", f.Path)
	}
	return nil
}

// checkImage is check for variables in a qcow2 image.
func checkImage(vars *os.File, template []byte, bad func(string, ...any) error) error {
	got, found, err := qcow2.Read(vars)
	if err != nil {
		return fmt.Errorf("read UEFI variables %q: %w", vars.Name(), err)
	}
	var want qcow2.Header
	if _, err := binary.Decode(template, binary.BigEndian, &want); err != nil {
		return fmt.Errorf("read template of UEFI variables: %w", err)
	}
	switch {
	case !found:
		return bad("it is no qcow2 image, as this firmware's are")
	case got.Unusable() != "":
		return bad("%s", got.Unusable())
	case got.Size != want.Size:
		return bad("it holds %d bytes, and this firmware's variables %d: it was made for another firmware", got.Size, want.Size)
	}
	return nil
}
