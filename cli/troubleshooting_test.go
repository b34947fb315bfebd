package cli

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/cli/scarce"
	"github.com/qnet-vm/qnet/internal/lab/house"
)

const troubleshooting = "../docs/troubleshooting.md"

// wild stands for what varies in a text: a verb of a format, or a <name> of the page.
const wild = "\x00"

var (
	verbs     = regexp.MustCompile(`"?%[-+# 0]*[\d.*]*[a-zA-Z]"?`)
	variables = regexp.MustCompile(`"?<[^<>]+>"?`)
	firstCell = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
)

// quoted are the texts in the first column of the page's tables.
func quoted(page string) []string {
	var list []string
	for _, m := range firstCell.FindAllStringSubmatch(page, -1) {
		list = append(list, strings.Trim(variables.ReplaceAllString(m[1], wild), wild+" "))
	}
	return list
}

// plain is a format without its verbs.
func plain(format string) string { return verbs.ReplaceAllString(format, wild) }

// wordOf matches a word of a text, not what varies in it.
var wordOf = regexp.MustCompile(`[A-Za-z][A-Za-z0-9_.'-]*`)

func words(text string) int { return len(wordOf.FindAllString(text, -1)) }

// literal is the value of a string, of strings joined by "+" too; "" of anything else.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			s, _ := strconv.Unquote(e.Value) // the parser has read it
			return s
		}
	case *ast.BinaryExpr:
		if left, right := literal(e.X), literal(e.Y); left != "" && right != "" {
			return left + right
		}
	}
	return ""
}

// strings of the program, with what varies made wild.
func programTexts(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, f := range house.Files(t) {
		if !f.Product() {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text := literal(e)
			if text != "" {
				list = append(list, plain(text))
			}
			return text == "" // of a sum, not its parts
		})
	}
	return list
}

// refusals are what qnet may refuse with, by the place in the code: the formats of
// host.Refuse, and what the plan returns.
func refusals(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, f := range house.Files(t) {
		if !f.Product() {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			_, returns := n.(*ast.ReturnStmt)
			if call, ok := n.(*ast.CallExpr); ok && refuses(call) || returns && plans(f.Path) {
				collect(n, func(e ast.Expr, text string) { found[f.Position(e).String()] = text })
			}
			return true
		})
	}
	return found
}

// refuses reports whether the call is one of host.Refuse or host.OfKind.
func refuses(call *ast.CallExpr) bool {
	fn, ok := call.Fun.(*ast.SelectorExpr)
	return ok && (fn.Sel.Name == "Refuse" || fn.Sel.Name == "OfKind")
}

// collect calls add with each literal in the node that is a refusal of its own.
func collect(n ast.Node, add func(e ast.Expr, text string)) {
	ast.Inspect(n, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text := plain(literal(e))
		command := strings.HasPrefix(text, "ip ") || strings.HasPrefix(text, "#")
		if words(text) >= 4 && !command {
			add(e, text)
		}
		return text == ""
	})
}

// others are files of the plan that refuse nothing: they word notes, routes and rules.
var others = []string{"notes.go", "pins.go", "zone.go"}

// plans reports whether a file decides what a network needs.
func plans(path string) bool {
	return filepath.Dir(path) == "netsetup/plan" && !slices.Contains(others, filepath.Base(path))
}

// Each text that docs/troubleshooting.md quotes is one of the program's. Each refusal is
// among them, and each error that has a hint.
func TestTroubleshooting(t *testing.T) {
	page, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	quotes, texts := quoted(string(page)), programTexts(t)
	for _, k := range scarce.Kinds {
		texts = append(texts, k.Errno.Error()) // the system's words, which qnet passes on
	}
	if len(quotes) < 50 || len(texts) < 1000 {
		t.Fatalf("%d texts quoted, %d in the program", len(quotes), len(texts))
	}
	for _, q := range quotes {
		if words(q) < 2 || !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, q) }) {
			t.Errorf("%s quotes %q, which is no text of the program", troubleshooting, strings.ReplaceAll(q, wild, "<>"))
		}
	}
	covered := func(text string) bool {
		return slices.ContainsFunc(quotes, func(q string) bool { return strings.Contains(text, q) })
	}
	list := refusals(t)
	if len(list) < 20 {
		t.Errorf("only %d refusals found", len(list))
	}
	for place, text := range list {
		if !covered(text) {
			t.Errorf("%s: %s lacks the refusal %q", place, troubleshooting, strings.ReplaceAll(text, wild, "<>"))
		}
	}
	for _, k := range scarce.Kinds {
		if text := k.Errno.Error(); !covered(text) {
			t.Errorf("%s lacks %q, which has a hint", troubleshooting, text)
		}
	}
	for _, h := range hints {
		if text := h.is.Error(); !covered(text) && !strings.Contains(string(page), text) {
			t.Errorf("%s lacks %q, which has a hint", troubleshooting, text)
		}
	}
}

// What the test itself relies on.
func TestQuotedAndPlain(t *testing.T) {
	page := "| text | cause |\n|---|---|\n| `VM <name> wants \"<mac>\"` | `no` |\n"
	if got := quoted(page); !slices.Equal(got, []string{"VM " + wild + " wants"}) {
		t.Errorf("quoted: %q", got)
	}
	if got := plain(`VM %q wants "%-5.2s" of 100%% %w`); got != "VM "+wild+" wants "+wild+" of 100%% "+wild {
		t.Errorf("plain: %q", got)
	}
	if n := words("a " + wild + " b c"); n != 3 {
		t.Errorf("words: %d", n)
	}
}
