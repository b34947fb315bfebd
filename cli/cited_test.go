package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const failureModes = "../docs/failure-modes.md"

var (
	citation = regexp.MustCompile(`\b(F\d{2}|R\d{1,2})\b(?: to (F\d{2}))?`)
	heading  = regexp.MustCompile(`(?m)^### (F\d{2}) |^\| (R\d{1,2}) \|`)
)

// cited lists the failure modes that a text cites; "F16 to F19" cites four.
func cited(text string) []string {
	var list []string
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		first, last := m[1], m[2]
		if last == "" {
			list = append(list, first)
			continue
		}
		from, _ := strconv.Atoi(first[1:])
		to, _ := strconv.Atoi(last[1:])
		for n := from; n <= to; n++ {
			list = append(list, "F"+strconv.Itoa(100 + n)[1:])
		}
	}
	return list
}

// describedModes lists the failure modes that a page has an entry for.
func describedModes(page string) []string {
	var list []string
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		list = append(list, m[1]+m[2])
	}
	return list
}

// goFiles calls f with each Go file of the project.
func goFiles(t *testing.T, f func(path string, file *ast.File, set *token.FileSet)) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err == nil {
			f(path, file, set)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// docs/failure-modes.md has an entry for each failure mode that a comment cites.
func TestCitedFailureModes(t *testing.T) {
	page, err := os.ReadFile(failureModes)
	if err != nil {
		t.Fatal(err)
	}
	have := describedModes(string(page))
	found := 0
	goFiles(t, func(_ string, file *ast.File, set *token.FileSet) {
		for _, group := range file.Comments {
			for _, c := range cited(group.Text()) {
				found++
				if !slices.Contains(have, c) {
					t.Errorf("%s: %s is not in %s", set.Position(group.Pos()), c, failureModes)
				}
			}
		}
	})
	if found == 0 {
		t.Error("no comment cites a failure mode")
	}
	for _, c := range cited(string(page)) { // what the page itself refers to
		if !slices.Contains(have, c) {
			t.Errorf("%s refers to %s, which it does not describe", failureModes, c)
		}
	}
}

func TestCited(t *testing.T) {
	got := cited("broken (F07), see F16 to F19 and R7; not 0F12, not F1")
	if want := []string{"F07", "F16", "F17", "F18", "F19", "R7"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
