package house

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

const failureModes = "docs/failure-modes.md"

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

// docs/failure-modes.md has an entry for each failure mode that a comment cites.
func TestCitedFailureModes(t *testing.T) {
	page, err := os.ReadFile(lab.Module(failureModes))
	if err != nil {
		t.Fatal(err)
	}
	have := describedModes(string(page))
	found := 0
	for _, f := range Files(t) {
		for _, group := range f.Comments {
			for _, c := range cited(group.Text()) {
				found++
				if !slices.Contains(have, c) {
					t.Errorf("%s: %s is not in %s", f.Position(group), c, failureModes)
				}
			}
		}
	}
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

// testName matches a test that a page names.
var testName = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)(?:/[a-z]+)?`")

// pages lists the project's pages.
func pages(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(lab.Module(pattern))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	if len(list) < 10 {
		t.Fatalf("only %d pages: %v", len(list), list)
	}
	return list
}

// Each test that a page names exists.
func TestNamedTestsExist(t *testing.T) {
	tests := map[string]bool{}
	for _, f := range Files(t) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.Tests() {
				tests[fn.Name.Name] = true
			}
		}
	}
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testName.FindAllStringSubmatch(string(text), -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// link matches a link of Markdown, without its anchor.
var link = regexp.MustCompile(`\]\(([^)#\s]*)`)

// Each file that a page links to exists.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if m[1] == "" || strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}
