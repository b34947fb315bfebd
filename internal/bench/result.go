package main

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

// row is a line of the table: what is measured, and the bar for the ratio of
// qnet's figure to the other's, or for qnet's figure alone.
type row struct {
	what, against, unit string
	most, least         float64 // of the ratio; 0 is no bar
	limit               float64 // at most, of qnet's median itself
	rounds              int     // times the bench's pairs, where contenders are close; 0 is 1
}

// side runs one round of a contender and returns a figure for each row.
type side func() ([]float64, error)

// result is a row measured.
type result struct {
	row
	qnet, other []float64
}

// contest lets the two sides take turns, either of them first; other may be nil.
func (b *bench) contest(rows []row, qnet, other side) error {
	results := make([]result, len(rows))
	for i, r := range rows {
		results[i].row = r
	}
	for i := range b.pairs * max(rows[0].rounds, 1) {
		mine, theirs, err := pair(qnet, other, i%2 == 1)
		if err != nil {
			return fmt.Errorf("%s: %w", rows[0].what, err)
		}
		for i := range results {
			results[i].qnet = append(results[i].qnet, mine[i])
			if other != nil {
				results[i].other = append(results[i].other, theirs[i])
			}
		}
	}
	for _, r := range results {
		b.add(r)
	}
	return nil
}

// pair runs both sides once; what runs second may find the machine warmer.
func pair(qnet, other side, otherFirst bool) (mine, theirs []float64, err error) {
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

func (b *bench) add(r result) {
	b.results = append(b.results, r)
	fmt.Fprintln(b.talk, r)
}

// ratios are those of the pairs, sorted.
func (r result) ratios() []float64 {
	var list []float64
	for i := range r.other {
		list = append(list, r.qnet[i]/r.other[i])
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

// verdict says whether the median keeps to the bar, and "open" where it does not
// but the interval that holds the true one does.
func (r result) verdict() (bar, verdict string) {
	mine := median(r.qnet)
	low, mid, high := mine, mine, mine
	if len(r.other) > 0 {
		ratios := r.ratios()
		mid = quantile(ratios, 0.5)
		low, high = interval(ratios)
	}
	var met, possible bool
	switch {
	case r.limit > 0:
		bar, met = "≤ "+short(r.limit)+" "+r.unit, mine <= r.limit
	case r.most > 0:
		bar, met, possible = "≤ "+short(r.most), mid <= r.most, low <= r.most
	case r.least > 0:
		bar, met, possible = "≥ "+short(r.least), mid >= r.least, high >= r.least
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

// interval holds the median of what a sorted list of six or more was drawn from, in at
// least 95 of 100 cases: as many of the list are on either side of it as a coin that is
// thrown that often shows heads.
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
func (r result) String() string {
	cells := []string{r.what, short(median(r.qnet)) + " " + r.unit, r.against, "", "", "", ""}
	if len(r.other) > 0 {
		ratios := r.ratios()
		low, high := interval(ratios)
		cells[3] = short(median(r.other)) + " " + r.unit
		cells[4] = short(quantile(ratios, 0.5))
		cells[5] = short(low) + " - " + short(high)
		cells[6] = short(quantile(ratios, 0.25)) + " - " + short(quantile(ratios, 0.75))
	}
	bar, verdict := r.verdict()
	return "| " + strings.Join(append(cells, bar, verdict), " | ") + " |"
}

func (b *bench) print(w io.Writer, only string) {
	fmt.Fprintf(w, "%s; %s; make bench %s, QNET_BENCH_PAIRS=%d\n\n", machine(), versions(), only, b.pairs)
	fmt.Fprintln(w, "| what | qnet | against | it | ratio, median of pairs | it is within, 95 % | middle half of the pairs | bar | met |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|")
	for _, r := range b.results {
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
