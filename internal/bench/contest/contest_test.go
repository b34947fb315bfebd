package contest

import (
	"errors"
	"io"
	"slices"
	"testing"
)

func TestInterval(t *testing.T) {
	list := func(n int) []float64 {
		var l []float64
		for i := range n {
			l = append(l, float64(i+1))
		}
		return l
	}
	// The ranks of tables of the sign test for 95 %, counted from 1.
	for n, want := range map[int][2]float64{1: {1, 1}, 5: {1, 5}, 6: {1, 6}, 10: {2, 9}, 20: {6, 15}, 30: {10, 21}} {
		if low, high := interval(list(n)); low != want[0] || high != want[1] {
			t.Errorf("of %d: got %v to %v, want %v", n, low, high, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	ratios := func(from float64) Result {
		var r Result
		for i := range 10 {
			r.Qnet, r.Other = append(r.Qnet, from+float64(i)/100), append(r.Other, 1)
		}
		return r
	}
	for _, c := range []struct {
		row  Row
		from float64
		want string
	}{
		{Row{Most: 1}, 0.9, "yes"},
		{Row{Most: 1}, 0.97, "open"},
		{Row{Most: 1}, 1.01, "**no**"},
		{Row{Least: 1}, 1, "yes"},
		{Row{Least: 1}, 0.92, "open"},
		{Row{Least: 1}, 0.9, "**no**"},
		{Row{Limit: 1, Unit: "ms"}, 1, "**no**"},
		{Row{}, 5, ""},
	} {
		r := ratios(c.from)
		r.Row = c.row
		if _, got := r.verdict(); got != c.want {
			t.Errorf("%+v from %v: got %q, want %q", c.row, c.from, got, c.want)
		}
	}
}

func TestPairTakesTurns(t *testing.T) {
	var order []string
	one := func(name string, figure float64) Side {
		return func() ([]float64, error) { order = append(order, name); return []float64{figure}, nil }
	}
	b := Table{Pairs: 2, Talk: io.Discard}
	if err := b.Contest([]Row{{What: "x"}}, one("qnet", 1), one("other", 2)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"qnet", "other", "other", "qnet"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
	if r := b.results[0]; !slices.Equal(r.Qnet, []float64{1, 1}) || !slices.Equal(r.Other, []float64{2, 2}) {
		t.Errorf("got %v and %v", r.Qnet, r.Other)
	}
	failed := errors.New("it fails")
	fails := func() ([]float64, error) { return nil, failed }
	if err := b.Contest([]Row{{What: "x"}}, one("qnet", 1), fails); !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
}
