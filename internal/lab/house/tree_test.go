package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// file is a Go file of the module.
type file struct {
	*ast.File
	path  string // below the module's directory
	lines int
}

// dir is the directory of its package, "." for the module's own.
func (f file) dir() string { return filepath.Dir(f.path) }

func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// isLab reports whether the file belongs to what only tests and measures.
func (f file) isLab() bool {
	return strings.HasPrefix(f.path, "internal/lab/") || strings.HasPrefix(f.path, "internal/bench/")
}

var fset = token.NewFileSet()

// tree parses all files that choose accepts.
func tree(t *testing.T, choose func(file) bool) []file {
	t.Helper()
	root := lab.Module("")
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		f := file{parsed, relative, strings.Count(string(text), "\n")}
		if choose(f) {
			files = append(files, f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no files")
	}
	return files
}

// production is code that is part of the product.
func production(f file) bool { return !f.isTest() && !f.isLab() }

func place(n ast.Node) string {
	p := fset.Position(n.Pos())
	relative, err := filepath.Rel(lab.Module(""), p.Filename)
	if err != nil {
		relative = p.Filename
	}
	p.Filename, p.Column = relative, 0
	return p.String()
}
