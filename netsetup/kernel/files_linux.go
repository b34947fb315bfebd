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
	"github.com/qnet-vm/qnet/netsetup/managers"
)

// madeDirectory is a file's last line where its directory is qnet's too.
const madeDirectory = managers.Mark + "the directory is qnet's, too\n"

// ReadConfig reads a file of a program's run-time configuration.
func (h *Host) ReadConfig(ctx context.Context, path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}

// WriteConfig replaces a file in one go. Everybody may read it: not all the
// programs run as root.
func (h *Host) WriteConfig(ctx context.Context, path, text string) error {
	dir := filepath.Dir(path)
	before, _ := os.ReadFile(path)
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(string(before), madeDirectory) {
		text += madeDirectory
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return atomicfile.Write(path, []byte(text))
}

// RemoveConfig removes a file and, if WriteConfig made it and nothing else is in
// it, its directory.
func (h *Host) RemoveConfig(ctx context.Context, path string) error {
	text, _ := os.ReadFile(path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove configuration: %w", err)
	}
	if strings.HasSuffix(string(text), madeDirectory) {
		os.Remove(filepath.Dir(path)) // fails, as it should, where more is in it
	}
	return nil
}

// Reload has a program read its configuration again.
func (h *Host) Reload(ctx context.Context, p managers.Program) error { return managers.Reload(ctx, p) }

// SetManaged has NetworkManager take care of a link or let go of it.
//
//	nmcli device set LINK managed yes|no
func (h *Host) SetManaged(ctx context.Context, link string, managed bool) error {
	return managers.SetManaged(ctx, link, managed)
}

// Managed reports whether NetworkManager takes care of a link.
func (h *Host) Managed(ctx context.Context, link string) (bool, error) {
	return managers.Managed(ctx, link)
}
