package images

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// signed returns a store whose image has a signature at a place of the site.
func (s *site) signed(t *testing.T, signed, keys string) Store {
	t.Helper()
	return s.store(t, "signed = \""+s.URL+"/"+signed+"\"\n"+keys)
}

func signatureOf(t *testing.T, s Store) string {
	t.Helper()
	list, err := s.List()
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	return list[0].Signature
}

// An image whose checksums, or which itself, a key of the user's catalog signed is pulled and
// says so. With another signature, with none, or with another key nothing of it is kept.
func TestSignedImages(t *testing.T) {
	key, other := lab.NewSigner(t), lab.NewSigner(t)
	s := newSite(t)
	content := disk(t, 1<<30)
	s.put("test.qcow2", content)
	s.publish()
	list := s.files["SHA256SUMS"]
	s.put("SHA256SUMS.gpg", key.GPG(list, "--detach-sign"))
	s.put("SHA256SUMS.asc", key.GPG(list, "--clearsign"))
	s.put("old.gpg", key.GPG([]byte("of other checksums\n"), "--detach-sign"))
	s.put("test.qcow2.sig", key.GPG(content, "--detach-sign"))
	s.put("test.qcow2.old", key.GPG([]byte("another image"), "--detach-sign"))
	for _, c := range []struct {
		signed, key string
		words       string // of the error; "" if it is pulled
	}{
		{"SHA256SUMS.gpg", key.Keys, ""},
		{"SHA256SUMS.asc", key.Keys, ""},
		{"test.qcow2.sig", key.Keys, ""},
		{"SHA256SUMS.gpg", other.Keys, "No public key"},
		{"old.gpg", key.Keys, "BAD signature"},
		{"none.gpg", key.Keys, "404"},
		{"test.qcow2.sig", other.Keys, "No public key"},
		{"test.qcow2.old", key.Keys, "BAD signature"},
		{"SHA256SUMS.gpg", "/no/such/keys", "no such file"},
	} {
		store := s.signed(t, c.signed, "keys = [\"/neither/there\", \""+c.key+"\"]\n")
		if c.key == "/no/such/keys" {
			store = s.signed(t, c.signed, "keys = [\""+c.key+"\"]\n")
		}
		local, _, err := store.Pull(t.Context(), resolve(t, store, "test"), nil)
		var bad *SignatureError
		switch {
		case c.words == "" && (err != nil || signatureOf(t, store) != "verified by "+c.key):
			t.Errorf("%s: %+v, %v", c.signed, local, err)
		case c.words != "" && (!errors.As(err, &bad) || !strings.Contains(err.Error(), c.words) || bad.Hint() == ""):
			t.Errorf("%s by %s: %v, want %q", c.signed, c.key, err, c.words)
		}
		left, _ := filepath.Glob(store.Dir + "/[bpw]*/*") // blobs, parts, work
		if c.words != "" && len(left) > 0 {
			t.Errorf("%s: left %v", c.signed, left)
		}
	}
}

// A signature for which no key is there is not verified, and the image says why. gpgv missing
// is no reason to leave out what the user's own catalog asks for.
func TestUnverifiedSignatures(t *testing.T) {
	s := newSite(t)
	s.put("test.qcow2", disk(t, 1<<30))
	s.publish()
	store := s.signed(t, "SHA256SUMS.gpg", "")
	if _, _, err := store.Pull(t.Context(), resolve(t, store, "test"), nil); err != nil || signatureOf(t, store) != "not verified: no key of it is known" {
		t.Errorf("%v, %q", err, signatureOf(t, store))
	}
	i := Image{URL: "https://e.org/x", Signed: "https://e.org/S.gpg", Keys: []string{"/no/such"}}
	if keys, why := store.Trust(i); keys != "" || why != "none of its files of keys is there: /no/such" {
		t.Errorf("%q, %q", keys, why)
	}
	i.Own = true
	if keys, _ := store.Trust(i); keys != "/no/such" {
		t.Errorf("the user's own: %q", keys)
	}
	i.Keys, i.Own = []string{os.Args[0]}, false
	if keys, why := store.Trust(i); keys != os.Args[0] && why != "the program gpgv is not installed" {
		t.Errorf("%q, %q", keys, why)
	}
}
