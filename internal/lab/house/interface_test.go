package house

import (
	"go/ast"
	"strings"
	"testing"
)

// mostMethods bars interfaces: a fake fits on a screen.
const mostMethods = 8

func TestInterfacesAreSmall(t *testing.T) {
	types := interfaces{}
	for _, f := range Files(t) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || !f.Product() {
				continue
			}
			for _, s := range g.Specs {
				if s, ok := s.(*ast.TypeSpec); ok {
					if i, ok := s.Type.(*ast.InterfaceType); ok {
						types[f.Name.Name+"."+s.Name.Name] = i
					}
				}
			}
		}
	}
	for name, i := range types {
		pkg, _, _ := strings.Cut(name, ".")
		if n := types.methods(pkg, i); n > mostMethods {
			t.Errorf("%s has %d methods, more than %d", name, n, mostMethods)
		}
	}
}

// interfaces are by PACKAGE.NAME.
type interfaces map[string]*ast.InterfaceType

// methods counts those of embedded interfaces, too.
func (types interfaces) methods(pkg string, i *ast.InterfaceType) int {
	n := 0
	for _, m := range i.Methods.List {
		switch e := m.Type.(type) {
		case *ast.FuncType:
			n += len(m.Names)
		case *ast.Ident:
			if embedded := types[pkg+"."+e.Name]; embedded != nil {
				n += types.methods(pkg, embedded)
			}
		case *ast.SelectorExpr:
			other, ok := e.X.(*ast.Ident)
			if embedded := types[other.Name+"."+e.Sel.Name]; ok && embedded != nil {
				n += types.methods(other.Name, embedded)
			}
		}
	}
	return n
}
