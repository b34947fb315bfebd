package sshkey

import (
	"strings"
	"testing"
	"unicode"
)

// FuzzIdentities reads any answer of an SSH agent, and any text as a public key: a key is one
// printable line.
func FuzzIdentities(f *testing.F) {
	blob := "\x00\x00\x00\x13\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x00"
	for _, seed := range []string{
		"\x0c\x00\x00\x00\x01" + blob + "\x00\x00\x00\x01c", "\x0c\x00\x00\x00\x01" + blob + "\x00\x00\x00\x05a\nb\x1bc", "\x0c\xff\xff\xff\xff", "\x0c\x00\x00\x00\x01\xff\xff\xff\xff", "\x0c", "ssh-ed25519 AAAA \x1b[2J", "ssh-rsa AAAA\nssh-rsa BBBB",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := identities(b)
		if err != nil {
			keys = nil
		}
		if key, err := Parse(string(b)); err == nil {
			keys = append(keys, key)
		}
		for _, key := range keys {
			if strings.ContainsFunc(key, unicode.IsControl) {
				t.Errorf("got %q", key)
			}
		}
	})
}
