package doctor

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/profiles"
)

// WriteText prints a line for each finding, with its remedy below.
func (r Report) WriteText(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "CHECK\tSTATUS\tMODES\tEVIDENCE")
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Check, f.Status, modeList(f.Modes, len(r.Modes)), oneLine(f.Evidence))
		if f.Remedy != "" && f.Status != Pass {
			fmt.Fprintf(w, "\t\t\t-> %s\n", oneLine(f.Remedy))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	var words []string
	for _, m := range []profiles.Mode{profiles.Private, profiles.HostOnly, profiles.NAT, profiles.Bridge} {
		if s, ok := r.Modes[m]; ok {
			words = append(words, fmt.Sprintf("%s: %s", m, verdicts[s]))
		}
	}
	fmt.Fprintln(to, strings.Join(words, ", "))
	return nil
}

// verdicts say what the worst finding about a mode means for it.
var verdicts = map[Status]string{
	Pass: "works", Unseen: "works, as far as was seen", Warn: "works, but see above", Fail: "cannot work",
}

// modeList returns the modes that a finding is about, "all" if it is about all of them.
func modeList(modes []profiles.Mode, of int) string {
	if len(modes) == of && of > 1 {
		return "all"
	}
	var words []string
	for _, m := range modes {
		words = append(words, string(m))
	}
	return cmp.Or(strings.Join(words, ","), "-")
}

// oneLine joins the lines of a text, which may have parts that anybody chose.
func oneLine(s string) string { return legible.Text(strings.Join(strings.Fields(s), " ")) }
