package house

import (
	"go/ast"
	"testing"
)

// ownContexts are the files of the product that may make a context, and why no
// caller has one that would do.
var ownContexts = map[string]string{
	"main.go":                      "the process's own",
	"internal/control/do.go":       "an operation that has begun is not given up with its client",
	"internal/relay/tcp.go":        "a forward's own, until Remove",
	"internal/service/notify.go":   "QEMU's end is a channel, and an answer has the watchdog's time",
	"netsetup/dns/listen_linux.go": "net.ListenConfig takes one, and an address in numbers needs no look-up",
	"netsetup/dns/server.go":       "the server's own, until Close",
	"qemu/qmp/command.go":          "go-qemu's Monitor interface has none",
	"qemu/qmp/monitor.go":          "go-qemu's Monitor interface has none",
	"qemu/vm.go":                   "go-qemu's Monitor interface takes one for events, which end with the connection",
}

// Library code gets its contexts from its callers, so that every wait ends with them.
func TestContexts(t *testing.T) {
	used := map[string]bool{}
	for _, f := range Files(t) {
		if !f.Product() {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && makesContext(s) {
				used[f.Path] = true
				if ownContexts[f.Path] == "" {
					t.Errorf("%s makes a context: take the caller's, or say why not in ownContexts", f.Position(s))
				}
			}
			return true
		})
	}
	for path := range ownContexts {
		if !used[path] {
			t.Errorf("%s makes no context: remove it from ownContexts", path)
		}
	}
}

// makesContext reports whether the selector is context.Background or context.TODO.
func makesContext(s *ast.SelectorExpr) bool {
	pkg, ok := s.X.(*ast.Ident)
	return ok && pkg.Name == "context" && (s.Sel.Name == "Background" || s.Sel.Name == "TODO")
}
