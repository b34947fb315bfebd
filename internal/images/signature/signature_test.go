package signature

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

func verifier(t *testing.T) Verifier {
	t.Helper()
	v := Verifier{Search: os.Getenv("PATH"), Dir: t.TempDir()}
	if os.Geteuid() == 0 {
		v.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return v
}

// Detached signatures, armored and not, cleartext-signed messages and signatures of files are
// good if a key of the file made them, and bad if anything has changed or another key signed.
func TestSignatures(t *testing.T) {
	s, other, v := lab.NewSigner(t), lab.NewSigner(t), verifier(t)
	binary := filepath.Join(t.TempDir(), "keys.gpg")
	if err := os.WriteFile(binary, s.GPG(nil, "--export"), 0o600); err != nil {
		t.Fatal(err)
	}
	sums := []byte("0123  disk.qcow2\n")
	detached, armored, message := s.GPG(sums, "--detach-sign"), s.GPG(sums, "--armor", "--detach-sign"), s.GPG(sums, "--clearsign")
	changed := bytes.Replace(message, []byte("0123"), []byte("4567"), 1)
	for name, c := range map[string]struct {
		keys            string
		signature, text []byte
		bad             string // "" if it is good
	}{
		"detached":               {s.Keys, detached, sums, ""},
		"armored":                {s.Keys, armored, sums, ""},
		"by keys without armor":  {binary, detached, sums, ""},
		"cleartext":              {s.Keys, message, []byte("what another file says"), ""},
		"of another text":        {s.Keys, detached, []byte("4567  disk.qcow2\n"), "BAD signature"},
		"cleartext changed":      {s.Keys, changed, nil, "BAD signature"},
		"by another key":         {other.Keys, detached, sums, "No public key"},
		"cleartext, another key": {other.Keys, message, nil, "No public key"},
		"no signature":           {s.Keys, []byte("<html>not found</html>"), sums, "no valid OpenPGP data"},
		"the text as signature":  {s.Keys, sums, sums, "no valid OpenPGP data"},
		"empty":                  {s.Keys, nil, sums, "exit status"},
	} {
		got, err := v.Text(t.Context(), c.keys, c.signature, c.text)
		switch {
		case c.bad == "" && (err != nil || !bytes.Equal(got, sums)):
			t.Errorf("%s: %q, %v", name, got, err)
		case c.bad != "" && (!errors.Is(err, ErrBad) || !strings.Contains(err.Error(), c.bad)):
			t.Errorf("%s: %v, want ErrBad with %q", name, err, c.bad)
		}
	}
	f, err := os.CreateTemp(t.TempDir(), "") // that only its owner may open
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Write(sums)
	if err := v.File(t.Context(), s.Keys, detached, f); err != nil {
		t.Error(err)
	}
	f.WriteString("more")
	if err := v.File(t.Context(), s.Keys, detached, f); !errors.Is(err, ErrBad) {
		t.Errorf("a changed file: %v", err)
	}
	if left, _ := os.ReadDir(v.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Missing keys and a missing gpgv are named.
func TestNothingToVerifyWith(t *testing.T) {
	v := verifier(t)
	lab.Require(t, lab.Program("gpgv"))
	if _, err := v.Text(t.Context(), "/no/keys", []byte("x"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
