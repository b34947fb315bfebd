package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// json prints a value as JSON.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows in columns; the words of the header name these.
func (a *app) table(header string, rows func(w io.Writer)) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	rows(w)
	return w.Flush()
}

// orDash returns what a table shows: "-" for nothing.
func orDash(s string) string { return cmp.Or(s, "-") }

// addressOrDash is orDash for an address, which may be the zero one.
func addressOrDash(a netip.Addr) string {
	if !a.IsValid() {
		return orDash("")
	}
	return a.String()
}

// onTerminal reports whether talk writes to a terminal.
func (a *app) onTerminal() bool {
	f, ok := a.Stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// talk writes a line to stderr, or to the terminal if a guest's console has it.
func (a *app) talk(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	a.say(func() {
		a.line.Erase()
		if a.terminal != nil && a.onTerminal() {
			a.terminal.Say(text)
			return
		}
		fmt.Fprintln(a.Stderr, text)
	})
}

// say calls what writes to stderr. A run does not wait for it.
func (a *app) say(write func()) {
	if a.speech != nil {
		a.speech.Put(write)
		return
	}
	write()
}

// note prints a note. Its text names its subject.
func (a *app) note(n keeper.Note) { a.talk("note: %s", n) }

// warn prints a note about a VM that starts or runs.
func (a *app) warn(n keeper.Note) { a.talk("warning: %s", n) }
