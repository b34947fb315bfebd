package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"
)

func (a *app) json(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func (a *app) table(header string, rows func(w io.Writer)) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	rows(w)
	return w.Flush()
}

func orDash(s string) string { return first(s, "-") }

// onTerminal reports whether somebody reads on a terminal what talk writes.
func (a *app) onTerminal() bool {
	f, ok := a.Stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// talk writes a line to stderr, or to the terminal that it shares with a guest.
func (a *app) talk(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.line.Erase()
	if a.terminal != nil && a.onTerminal() {
		a.terminal.Say(text)
		return
	}
	fmt.Fprintln(a.Stderr, text)
}
