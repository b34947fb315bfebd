package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// saltLen is the length of a new salt, in bytes. LoadSalt takes one of minSaltLen.
const (
	saltLen    = 32
	minSaltLen = 16
)

// LoadSalt reads the host's random salt, from which MACs and subnets derive, and makes it on
// first use: hosts with a cloned machine-id have different MACs.
func LoadSalt(stateDir string) ([]byte, error) {
	path := filepath.Join(stateDir, "salt")
	salt, err := os.ReadFile(path)
	if err == nil && len(salt) >= minSaltLen {
		return salt, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read salt: %w", err)
	}
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	salt = make([]byte, saltLen)
	rand.Read(salt)
	// If another process was faster, Link fails, and that process's salt stands.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, salt, 0o644); err != nil {
		return nil, fmt.Errorf("write salt: %w", err)
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write salt: %w", err)
	}
	return os.ReadFile(path)
}
