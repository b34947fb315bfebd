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
}

// side runs one round of a contender and returns a figure for each row.
type side func() ([]float64, error)

// result is a row measured.
type result struct {
	row
	qnet, other []float64
}

// contest lets the two sides take turns; other may be nil.
func (b *bench) contest(rows []row, qnet, other side) error {
	results := make([]result, len(rows))
	for i, r := range rows {
		results[i].row = r
	}
	for range b.pairs {
		mine, err := qnet()
		if err != nil {
			return fmt.Errorf("%s: qnet: %w", rows[0].what, err)
		}
		var theirs []float64
		if other != nil {
			if theirs, err = other(); err != nil {
				return fmt.Errorf("%s: %s: %w", rows[0].what, rows[0].against, err)
			}
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

func (r result) bar() (text string, met bool) {
	mine := median(r.qnet)
	var ratio float64
	if len(r.other) > 0 {
		ratio = quantile(r.ratios(), 0.5)
	}
	switch {
	case r.limit > 0:
		return fmt.Sprintf("≤ %s %s", short(r.limit), r.unit), mine <= r.limit
	case r.most > 0:
		return "≤ " + short(r.most), ratio <= r.most
	case r.least > 0:
		return "≥ " + short(r.least), ratio >= r.least
	}
	return "", true
}

// String is the row in Markdown.
func (r result) String() string {
	cells := []string{r.what, short(median(r.qnet)) + " " + r.unit, r.against, "", "", ""}
	if len(r.other) > 0 {
		ratios := r.ratios()
		cells[3] = short(median(r.other)) + " " + r.unit
		cells[4] = short(quantile(ratios, 0.5))
		cells[5] = short(quantile(ratios, 0.25)) + " - " + short(quantile(ratios, 0.75))
	}
	text, met := r.bar()
	verdict := "yes"
	if !met {
		verdict = "**no**"
	}
	if text == "" {
		verdict = ""
	}
	return "| " + strings.Join(append(cells, text, verdict), " | ") + " |"
}

func (b *bench) print(w io.Writer, only string) {
	fmt.Fprintf(w, "%s; %s; make bench %s, QNET_BENCH_PAIRS=%d\n\n", machine(), versions(), only, b.pairs)
	fmt.Fprintln(w, "| what | qnet | against | it | ratio, median of pairs | middle half of the pairs | bar | met |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|")
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
