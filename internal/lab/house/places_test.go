package house

import (
	"os"
	"regexp"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// placeName matches a package, or a file of one, that a page names.
var placeName = regexp.MustCompile("`((?:cli|internal|macgen|netsetup|profiles|qemu)/[A-Za-z0-9_./]*)`")

// Each package or file of the project that a page names exists.
func TestNamedPlacesExist(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range placeName.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(lab.Module(m[1])); err != nil {
				t.Errorf("%s names %s: %v", page, m[1], err)
			}
		}
	}
}
