package house

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// Bars for functions of the product, in lines from func to the closing brace.
const (
	medianLines = 10
	tenthLines  = 25 // nine of ten functions have at most so many
	mostLines   = 60
)

// Bars for the cyclomatic complexity of functions.
const (
	tooComplex  = 15
	mostComplex = 5 // functions
)

// function is one of the product's.
type function struct {
	*ast.FuncDecl
	file File
}

func functions(t *testing.T) []function {
	t.Helper()
	var list []function
	for _, f := range Files(t) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil && f.Product() {
				list = append(list, function{fn, f})
			}
		}
	}
	return list
}

func TestFunctionsAreSmall(t *testing.T) {
	var sizes []int
	for _, fn := range functions(t) {
		n := fn.file.lines(fn.FuncDecl)
		sizes = append(sizes, n)
		if n > mostLines {
			t.Errorf("%s: %s has %d lines, more than %d", fn.file.Position(fn), fn.Name.Name, n, mostLines)
		}
	}
	slices.Sort(sizes)
	median, tenth := sizes[len(sizes)/2], sizes[len(sizes)*9/10]
	if median > medianLines || tenth > tenthLines {
		t.Errorf("half of the functions have %d lines or more, and a tenth %d; the bars are %d and %d", median, tenth, medianLines, tenthLines)
	}
	t.Logf("%d functions: median %d, p90 %d, most %d lines", len(sizes), median, tenth, sizes[len(sizes)-1])
}

func TestFunctionsAreSimple(t *testing.T) {
	var found []string
	for _, fn := range functions(t) {
		if complexity(fn.FuncDecl) > tooComplex {
			found = append(found, fn.file.Position(fn).String()+" "+fn.Name.Name)
		}
	}
	if len(found) > mostComplex {
		t.Errorf("%d functions are complex, more than %d:\n%s", len(found), mostComplex, strings.Join(found, "\n"))
	}
	t.Logf("%d functions are more complex than %d: %v", len(found), tooComplex, found)
}

// complexity is the number of independent paths (McCabe), counted as gocyclo does.
func complexity(fn *ast.FuncDecl) int {
	n := 1
	ast.Inspect(fn, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}
