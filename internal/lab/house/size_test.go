package house

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
)

// mostPackageLines bars packages of the product, in lines of declarations: without
// imports, and without the comments and empty lines between declarations.
const mostPackageLines = 1300

// mostCLILines bars cli, which has a file for each command. No command uses another's.
const mostCLILines = 1500

// keeper and filters are divided into packages, and have larger ones.
func divided(dir string) bool {
	return strings.HasPrefix(dir, "netsetup/keeper") || strings.HasPrefix(dir, "netsetup/filters")
}

func TestPackagesAreSmall(t *testing.T) {
	sizes := map[string]int{}
	for _, f := range Files(t) {
		if f.Product() && !divided(f.Dir()) {
			sizes[f.Dir()] += declared(f)
		}
	}
	largest := ""
	for dir, n := range sizes {
		most := mostPackageLines
		if dir == "cli" {
			most = mostCLILines
		}
		if n >= most {
			t.Errorf("%s has %d lines, not less than %d", dir, n, most)
		}
		if n > sizes[largest] && dir != "cli" {
			largest = dir
		}
	}
	t.Logf("the largest is %s with %d lines", largest, sizes[largest])
}

// declared counts the lines of a file's declarations.
func declared(f File) int {
	n := 0
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); !ok || g.Tok != token.IMPORT {
			n += f.lines(d)
		}
	}
	return n
}
