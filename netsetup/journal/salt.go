package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/internal/rundir"
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
	if err := rundir.MakeState(stateDir, ""); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if _, err := perm.Mend(path, perm.File()); err != nil {
		return nil, fmt.Errorf("read salt: %w", err)
	}
	salt, err := os.ReadFile(path)
	if err == nil && len(salt) >= minSaltLen {
		return salt, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read salt: %w", err)
	}
	salt = make([]byte, saltLen)
	rand.Read(salt)
	// If another process was faster, Link fails, and that process's salt stands.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := atomicfile.Create(tmp, salt); err != nil {
		return nil, fmt.Errorf("write salt: %w", err)
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write salt: %w", err)
	}
	return os.ReadFile(path)
}
