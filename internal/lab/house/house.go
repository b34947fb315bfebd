// Package house holds tests of the source tree itself: every package says what it is
// for, functions, interfaces and packages stay small, library code gets its contexts
// from its callers, and what comments and pages cite exists.
//
// The bars are those of CONTRIBUTING.md. A change that misses one either gets
// smaller or changes the bar here, with a reason.
package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// File is a Go file of the module.
type File struct {
	*ast.File
	Path string // below the module's directory
	set  *token.FileSet
}

// Dir is the directory of the file's package, "." for the module's own.
func (f File) Dir() string { return filepath.Dir(f.Path) }

// Tests reports whether the file belongs to a test.
func (f File) Tests() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Product reports whether the file is part of qnet, and neither of tests nor of the
// packages that test and measure.
func (f File) Product() bool {
	return !f.Tests() && !strings.HasPrefix(f.Path, "internal/lab/") && !strings.HasPrefix(f.Path, "internal/bench/")
}

// Position is the place of a node, for messages.
func (f File) Position(n ast.Node) token.Position {
	p := f.set.Position(n.Pos())
	p.Filename = f.Path
	return p
}

// lines is the number of lines of a node.
func (f File) lines(n ast.Node) int {
	return f.set.Position(n.End()).Line - f.set.Position(n.Pos()).Line + 1
}

// Files parses the module's Go files, with comments.
func Files(t testing.TB) []File {
	t.Helper()
	root, set := lab.Module(""), token.NewFileSet()
	var files []File
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		parsed, err := parser.ParseFile(set, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		files = append(files, File{parsed, relative, set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
