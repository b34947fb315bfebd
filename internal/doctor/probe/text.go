package probe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/qnet-vm/qnet/internal/legible"
)

// WriteText prints a line for each step, with the cause of a failure below.
func (r Report) WriteText(to io.Writer) error {
	fmt.Fprintf(to, "network %s: %s, bridge %s, in %s\n", legible.Text(r.Network), r.Mode, legible.Text(r.Bridge), r.Took.Round(time.Millisecond))
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STEP\tOUTCOME\tTIME\tDETAIL")
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Name, s.Outcome, s.Took.Round(10*time.Microsecond), oneLine(s.Detail))
		if s.Cause != "" {
			fmt.Fprintf(w, "\t\t\t-> %s\n", oneLine(s.Cause))
		}
	}
	return w.Flush()
}

// oneLine joins the lines of a text, which may have parts that anybody chose.
func oneLine(s string) string { return legible.Text(strings.Join(strings.Fields(s), " ")) }
