// Package atomicfile replaces files in one go: a reader sees the old text or the new
// one, never a part, whenever the writer is killed.
package atomicfile

import (
	"fmt"
	"os"
	"path/filepath"
)

// Write replaces the file at path, which everyone may read, by way of path.new
// (rename(2)). Two processes must not write the same path at a time.
func Write(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
