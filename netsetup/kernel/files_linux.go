package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/netsetup/managers"
)

// madeDirectory is the last line of a file for which WriteConfig made the directory, too.
const madeDirectory = managers.Mark + "the directory is qnet's, too\n"

// ReadConfig reads a file of a program's run-time configuration. It is fs.ErrNotExist if
// there is none.
func (h *Host) ReadConfig(ctx context.Context, path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}

// WriteConfig replaces a file atomically, and makes its directory. All users may read the
// file: not all programs run as root.
func (h *Host) WriteConfig(ctx context.Context, path, text string) error {
	dir := filepath.Dir(path)
	before, _ := os.ReadFile(path)
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(string(before), madeDirectory) {
		text += madeDirectory
	}
	if err := perm.MkdirAll(dir, perm.Dir()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return atomicfile.Write(path, []byte(text))
}

// RemoveConfig removes a file, and its directory if WriteConfig made that and it is empty.
func (h *Host) RemoveConfig(ctx context.Context, path string) error {
	text, _ := os.ReadFile(path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove configuration: %w", err)
	}
	if strings.HasSuffix(string(text), madeDirectory) {
		os.Remove(filepath.Dir(path)) // fails, as it should, where it is not empty
	}
	return nil
}

// Reload makes a program read its configuration again (managers.Reload).
func (h *Host) Reload(ctx context.Context, p managers.Program) error { return managers.Reload(ctx, p) }

// SetManaged makes NetworkManager configure a link, or leave it alone.
//
//	nmcli device set LINK managed yes|no
func (h *Host) SetManaged(ctx context.Context, link string, managed bool) error {
	return managers.SetManaged(ctx, link, managed)
}

// Managed reports whether NetworkManager configures a link.
//
//	nmcli -g GENERAL.NM-MANAGED device show LINK
func (h *Host) Managed(ctx context.Context, link string) (bool, error) {
	return managers.Managed(ctx, link)
}
