package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/qnet-vm/qnet/internal/atomicfile"
)

// LoadSalt reads the host's random salt, from which MACs and subnets derive, and
// makes it on first use: cloned machine-ids give different MACs.
func LoadSalt(stateDir string) ([]byte, error) {
	path := filepath.Join(stateDir, "salt")
	salt, err := os.ReadFile(path)
	if err == nil && len(salt) >= 16 {
		return salt, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read salt: %w", err)
	}
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	salt = make([]byte, 32)
	rand.Read(salt)
	// Link fails where another process was faster: its salt holds.
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

func subnetPath(stateDir, network string) string { return filepath.Join(stateDir, "subnets", network) }

// LoadSubnet returns the subnet the network had last time, zero if none.
func LoadSubnet(stateDir, network string) netip.Prefix {
	b, err := os.ReadFile(subnetPath(stateDir, network))
	if err != nil {
		return netip.Prefix{}
	}
	p, _ := netip.ParsePrefix(strings.TrimSpace(string(b))) // a damaged file counts as none
	return p
}

// SaveSubnet keeps the subnet for the next time.
func SaveSubnet(stateDir, network string, p netip.Prefix) error {
	path := subnetPath(stateDir, network)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("remember subnet: %w", err)
	}
	return atomicfile.Write(path, []byte(p.String()+"\n"))
}
