package call

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

// JSON prints a value as JSON.
func (c *Call) JSON(v any) error {
	e := json.NewEncoder(c.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// Table prints rows in columns; the words of the header name these.
func (c *Call) Table(header string, rows func(w io.Writer)) error {
	w := tabwriter.NewWriter(c.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	rows(w)
	return w.Flush()
}

// OrDash returns what a table shows: "-" for nothing.
func OrDash(s string) string { return cmp.Or(s, "-") }

// AddressOrDash is OrDash for an address, which may be the zero one.
func AddressOrDash(a netip.Addr) string {
	if !a.IsValid() {
		return OrDash("")
	}
	return a.String()
}

// OnTerminal reports whether Talk writes to a terminal.
func (c *Call) OnTerminal() bool {
	f, ok := c.Stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Talk writes a line to stderr, or to the terminal if a guest's console has it.
func (c *Call) Talk(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.Say(func() {
		c.Line.Erase()
		if c.Terminal != nil && c.OnTerminal() {
			c.Terminal.Say(text)
			return
		}
		fmt.Fprintln(c.Stderr, text)
	})
}

// Say calls what writes to stderr. A run does not wait for it.
func (c *Call) Say(write func()) {
	if c.Speech != nil {
		c.Speech.Put(write)
		return
	}
	write()
}

// Note prints a note. Its text names its subject.
func (c *Call) Note(n keeper.Note) { c.Talk("note: %s", n) }

// Warn prints a note about a VM that starts or runs.
func (c *Call) Warn(n keeper.Note) { c.Talk("warning: %s", n) }
