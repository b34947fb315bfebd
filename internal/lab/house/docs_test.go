package house

import "testing"

// Every package has a doc comment that says what it is for.
func TestPackageDocs(t *testing.T) {
	docs := map[string]string{}
	for _, f := range Files(t) {
		if !f.Tests() {
			docs[f.Dir()] += f.Doc.Text()
		}
	}
	for dir, text := range docs {
		if text == "" {
			t.Errorf("%s has no package comment", dir)
		}
	}
}
