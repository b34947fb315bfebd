package house

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

const (
	architecture = "docs/architecture.md"
	module       = "github.com/qnet-vm/qnet"
)

var (
	layerRow    = regexp.MustCompile("(?m)^\\| [a-zA-Z' ]+ \\| (`[^|]*`) \\|")
	packageName = regexp.MustCompile("`([^`]+)`")
)

// layers are the packages of each row of the page's table, the lowest row 0.
func layers(t *testing.T) map[string]int {
	t.Helper()
	page, err := os.ReadFile(lab.Module(architecture))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Layers\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := layerRow.FindAllStringSubmatch(section, -1)
	slices.Reverse(rows)
	found := map[string]int{}
	for i, row := range rows {
		for _, m := range packageName.FindAllStringSubmatch(row[1], -1) {
			if _, twice := found[m[1]]; twice {
				t.Errorf("%s has %s twice", architecture, m[1])
			}
			found[m[1]] = i
		}
	}
	return found
}

// docs/architecture.md names every package, in a layer that imports none above it. What
// tests import does not count.
func TestLayers(t *testing.T) {
	rows := layers(t)
	if len(rows) < 30 {
		t.Fatalf("only %d packages in %s", len(rows), architecture)
	}
	seen := map[string]bool{}
	for _, f := range Files(t) {
		if f.Tests() {
			continue
		}
		from := f.Dir()
		row, listed := rows[from]
		if !listed && !seen[from] {
			t.Errorf("%s lacks %s", architecture, from)
		}
		seen[from] = true
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value) // the parser has read it
			to, ours := strings.CutPrefix(name, module+"/")
			if above, ok := rows[to]; ours && listed && (!ok || above > row) {
				t.Errorf("%s: %s imports %s, which is in a layer above it or in none", f.Position(spec), from, to)
			}
		}
	}
	for name := range rows {
		if !seen[name] {
			t.Errorf("%s names %s, which does not exist", architecture, name)
		}
	}
}
