// Package contest lets two contenders take turns, and writes a table of the ratios.
package contest

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// Table holds the results so far.
type Table struct {
	Pairs   int       // how many pairs of rounds a contest has
	Talk    io.Writer // gets each row when it is measured
	results []Result
}

// Row is a line of the table: what is measured, and the bar for the ratio of
// qnet's figure to the other's, or for qnet's figure alone.
type Row struct {
	What, Against, Unit string
	Most, Least         float64 // of the ratio; 0 is no bar
	Limit               float64 // at most, of qnet's median itself
	Rounds              int     // times the table's pairs, where contenders are close; 0 is 1
}

// Side runs one round of a contender and returns a figure for each row.
type Side func() ([]float64, error)

// Result is a row with the figures of each round.
type Result struct {
	Row
	Qnet, Other []float64
}

// Contest adds rows to the table. The two sides take turns, and take turns at being
// first; other may be nil.
func (t *Table) Contest(rows []Row, qnet, other Side) error {
	results := make([]Result, len(rows))
	for i, r := range rows {
		results[i].Row = r
	}
	for i := range t.Pairs * max(rows[0].Rounds, 1) {
		mine, theirs, err := pair(qnet, other, i%2 == 1)
		if err != nil {
			return fmt.Errorf("%s: %w", rows[0].What, err)
		}
		for i := range results {
			results[i].Qnet = append(results[i].Qnet, mine[i])
			if other != nil {
				results[i].Other = append(results[i].Other, theirs[i])
			}
		}
	}
	for _, r := range results {
		t.Add(r)
	}
	return nil
}

// pair runs both sides once. The second may find the machine warmer.
func pair(qnet, other Side, otherFirst bool) (mine, theirs []float64, err error) {
	if other == nil {
		mine, err = qnet()
		return mine, nil, err
	}
	if otherFirst {
		theirs, mine, err = pair(other, qnet, false)
		return mine, theirs, err
	}
	if mine, err = qnet(); err != nil {
		return nil, nil, err
	}
	theirs, err = other()
	return mine, theirs, err
}

// Add adds a row that a contest did not measure.
func (t *Table) Add(r Result) {
	t.results = append(t.results, r)
	fmt.Fprintln(t.Talk, r)
}

// ratios are those of the pairs, sorted.
func (r Result) ratios() []float64 {
	var list []float64
	for i := range r.Other {
		list = append(list, r.Qnet[i]/r.Other[i])
	}
	slices.Sort(list)
	return list
}

// quantile of a sorted list, q from 0 to 1.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return quantile(sorted, 0.5)
}

// short writes three digits.
func short(f float64) string {
	if f == 0 {
		return "0"
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(f))))
	return fmt.Sprintf("%.*f", max(digits, 0), f)
}

// verdict is the bar and whether the median meets it: "open" where the median misses
// the bar, but the interval that holds the true median reaches it.
func (r Result) verdict() (bar, verdict string) {
	mine := median(r.Qnet)
	low, mid, high := mine, mine, mine
	if len(r.Other) > 0 {
		ratios := r.ratios()
		mid = quantile(ratios, 0.5)
		low, high = interval(ratios)
	}
	var met, possible bool
	switch {
	case r.Limit > 0:
		bar, met = "≤ "+short(r.Limit)+" "+r.Unit, mine <= r.Limit
	case r.Most > 0:
		bar, met, possible = "≤ "+short(r.Most), mid <= r.Most, low <= r.Most
	case r.Least > 0:
		bar, met, possible = "≥ "+short(r.Least), mid >= r.Least, high >= r.Least
	default:
		return "", ""
	}
	switch {
	case met:
		return bar, "yes"
	case possible:
		return bar, "open"
	}
	return bar, "**no**"
}

// interval holds the true median of the distribution that a sorted list of six or more
// was drawn from, in at least 95 of 100 cases. It is the sign test's: the number of
// values below the median is that of heads when a coin is thrown once per value.
func interval(sorted []float64) (low, high float64) {
	n := len(sorted)
	below, term := 0.0, math.Pow(0.5, float64(n)) // the chance of exactly k heads
	k := 0
	for ; below+term <= 0.025; k++ {
		below += term
		term *= float64(n-k) / float64(k+1)
	}
	k = max(k-1, 0)
	return sorted[k], sorted[n-1-k]
}

// String is the row in Markdown.
func (r Result) String() string {
	cells := []string{r.What, short(median(r.Qnet)) + " " + r.Unit, r.Against, "", "", "", ""}
	if len(r.Other) > 0 {
		ratios := r.ratios()
		low, high := interval(ratios)
		cells[3] = short(median(r.Other)) + " " + r.Unit
		cells[4] = short(quantile(ratios, 0.5))
		cells[5] = short(low) + " - " + short(high)
		cells[6] = short(quantile(ratios, 0.25)) + " - " + short(quantile(ratios, 0.75))
	}
	bar, verdict := r.verdict()
	return "| " + strings.Join(append(cells, bar, verdict), " | ") + " |"
}

// Print writes the table in Markdown, below the machine and the versions of programs.
// only is the GROUPS of the command.
func (t *Table) Print(w io.Writer, only string) {
	fmt.Fprintf(w, "%s; %s; make bench %s, QNET_BENCH_PAIRS=%d\n\n", machine(), versions(), only, t.Pairs)
	fmt.Fprintln(w, "| what | qnet | against | it | ratio, median of pairs | it is within, 95 % | middle half of the pairs | bar | met |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	for _, r := range t.results {
		fmt.Fprintln(w, r)
	}
}

func machine() string {
	cpu := ""
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if _, name, ok := strings.Cut(line, "model name"); ok {
			cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d cores of %s, Linux %s, TCG", runtime.NumCPU(), cpu, strings.TrimSpace(string(kernel)))
}

func versions() string {
	var list []string
	for _, command := range [][]string{
		{"qemu-system-x86_64", "--version"},
		{"libvirtd", "--version"},
		{"dnsmasq", "--version"},
		{"passt", "--version"},
		{"iptables", "--version"},
		{"ip", "-V"},
	} {
		out, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil {
			continue
		}
		line, _, _ := strings.Cut(string(out), "\n")
		line, _, _ = strings.Cut(line, "  ")
		list = append(list, strings.TrimSpace(line))
	}
	return strings.Join(append(list, runtime.Version()), ", ")
}
