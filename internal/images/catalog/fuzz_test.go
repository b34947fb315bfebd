package catalog

import (
	"strings"
	"testing"
	"unicode"
)

// FuzzCatalog reads any text as a user's images.toml: entries are whole, or the error is printable.
func FuzzCatalog(f *testing.F) {
	for _, seed := range []string{
		"", string(builtIn), "[mine]\nurl = \"https://example.org/a.qcow2\"\nsha256 = \"" + strings.Repeat("0", 64) + "\"", "[\"\\u001b[2J\"]\nurl = 1", "[a]\nurl = \"file:///etc/shadow\"\n", "[a]\nurl=\"https://x/\\u001b[2J\"",
		"[a]\nx = 1", "a = 1", "[a]\nkeys = [\"../../etc/shadow\"]", "[a]\naliases = [\"\\u202e\"]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := Catalog{map[string]Entry{}}
		err := c.add([]byte(text), "/etc/qnet/images.toml", true)
		if err == nil {
			for name := range c.entries {
				if !NamePattern().MatchString(name) {
					t.Errorf("entry %q", name)
				}
			}
			return
		}
		if strings.ContainsFunc(strings.ReplaceAll(err.Error(), "\n", ""), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("the error could drive a terminal: %q", err)
		}
	})
}
