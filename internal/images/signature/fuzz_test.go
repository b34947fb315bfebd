package signature

import "testing"

// FuzzUnarmor reads any text as keys in armor: nothing panics, and the keys are no longer than
// the text.
func FuzzUnarmor(f *testing.F) {
	for _, seed := range []string{
		beginKeys + "\n\naGVsbG8=\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n", beginKeys + "\nComment: x\n\n", beginKeys + "\n\n====\n-----END ", beginKeys + beginKeys,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if ring, err := unarmor(text); len(ring) > len(text) || err != nil && ring != nil {
			t.Errorf("%d bytes of %d, %v", len(ring), len(text), err)
		}
	})
}
