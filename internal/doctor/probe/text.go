package probe

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteText prints a line for each step, with the cause of a failure below.
func (r Report) WriteText(to io.Writer) error {
	fmt.Fprintf(to, "network %s: %s, bridge %s, in %s\n", r.Network, r.Mode, r.Bridge, r.Took.Round(time.Millisecond))
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

// oneLine joins the lines of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
