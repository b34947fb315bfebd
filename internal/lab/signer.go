package lab

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Signer is a new OpenPGP key, in a home of GnuPG's.
type Signer struct {
	t    testing.TB
	home string
	Keys string // file of its public key, armored behind a line of text
}

// NewSigner makes a key, which goes at the test's end.
func NewSigner(t testing.TB) Signer {
	t.Helper()
	Require(t, Program("gpg"), Program("gpgv"))
	home := Dir(t) // short, because the agent's socket is in it
	s := Signer{t, home, filepath.Join(home, "keys.asc")}
	t.Cleanup(func() { exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	s.GPG(nil, "--passphrase", "", "--quick-generate-key", "Images <images@example.org>", "ed25519", "sign", "never")
	armored := append([]byte("Our keys:\n\n"), s.GPG(nil, "--armor", "--export")...)
	if err := os.WriteFile(s.Keys, armored, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// GPG runs GnuPG with the key on input, and returns what it writes.
func (s Signer) GPG(input []byte, args ...string) []byte {
	s.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--homedir", s.home, "--batch", "--quiet", "--pinentry-mode", "loopback"}, args...)...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		s.t.Fatalf("gpg %v: %v, %s", args, err, exit.Stderr)
	}
	return out
}
