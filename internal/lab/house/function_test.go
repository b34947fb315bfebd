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

func functions(files []file) []*ast.FuncDecl {
	var list []*ast.FuncDecl
	for _, f := range files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				list = append(list, fn)
			}
		}
	}
	return list
}

func lines(n ast.Node) int { return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1 }

func TestFunctionsAreSmall(t *testing.T) {
	var sizes []int
	for _, fn := range functions(tree(t, production)) {
		n := lines(fn)
		sizes = append(sizes, n)
		if n > mostLines {
			t.Errorf("%s: %s has %d lines, more than %d", place(fn), fn.Name.Name, n, mostLines)
		}
	}
	slices.Sort(sizes)
	median, tenth := sizes[len(sizes)/2], sizes[len(sizes)*9/10]
	if median > medianLines || tenth > tenthLines {
		t.Errorf("the median of functions has %d lines, more than %d, or the largest tenth %d, more than %d", median, medianLines, tenth, tenthLines)
	}
	t.Logf("%d functions: median %d, p90 %d, most %d lines", len(sizes), median, tenth, sizes[len(sizes)-1])
}

func TestFunctionsAreSimple(t *testing.T) {
	var found []string
	for _, fn := range functions(tree(t, production)) {
		if complexity(fn) > tooComplex {
			found = append(found, place(fn)+" "+fn.Name.Name)
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
