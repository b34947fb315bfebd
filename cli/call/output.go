package call

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// JSON prints a value as JSON.
func (c *Call) JSON(v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := c.Stdout.Write(legible.JSON(b.Bytes()))
	return err
}

// Row adds a row to a table.
type Row func(cells ...any)

// Table prints rows in columns; the words of the header name these. The cells may be text that
// anybody chose.
func (c *Call) Table(header string, rows func(row Row)) error {
	w := tabwriter.NewWriter(c.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	rows(func(cells ...any) {
		words := make([]string, len(cells))
		for i, cell := range cells {
			words[i] = legible.Text(fmt.Sprint(cell))
		}
		fmt.Fprintln(w, strings.Join(words, "\t"))
	})
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

// Talk writes a line to stderr, or to the terminal if a guest's console has it. The text may
// have parts that anybody chose.
func (c *Call) Talk(format string, args ...any) {
	text := legible.Lines(fmt.Sprintf(format, args...))
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
