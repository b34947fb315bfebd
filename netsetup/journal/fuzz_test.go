package journal

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead reads any file as a journal, as after a crash or of another version: nothing panics, and
// what was read can be listed and written again.
func FuzzRead(f *testing.F) {
	olds, _ := filepath.Glob("testdata/*.json")
	for _, old := range olds {
		if b, err := os.ReadFile(old); err == nil {
			f.Add(b)
		}
	}
	for _, seed := range []string{"", "{}", "null", `{"plan":{"steps":[{"do":"x"}]}}`, `{"plan":{"steps":[null]},"ports":{"a":[null]}}`, `{"ports":{"../../x":[]}}`, `{"plan":`} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "journal.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Read(path)
		if err != nil {
			return
		}
		for _, s := range j.Steps() {
			_ = s.String()
		}
		j.Follow(nil)
		j.Identify(nil)
		if err := j.Write(path); err != nil {
			t.Errorf("write again: %v", err)
		}
	})
}
