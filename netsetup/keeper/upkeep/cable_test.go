package upkeep

import (
	"testing"
	"time"
)

// What is seen of the cable and the clocks, second by second, and what is done.
func TestCable(t *testing.T) {
	type at struct {
		awake, asleep float64 // seconds
		carrier       bool
		want          doing
	}
	again := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	for name, list := range map[string][]at{
		"nothing happens": {
			{1, 0, true, doing{}},
			{2, 0, true, doing{}},
			{3, 0.5, true, doing{}},
		},
		"a short loss": {
			{1, 0, true, doing{}},
			{2, 0, false, doing{again: again(5)}},
			{2.3, 0, true, doing{check: true}},
			{3, 0, true, doing{}},
		},
		"pulled and plugged": {
			{1, 0, true, doing{}},
			{2, 0, false, doing{again: again(5)}},
			{4, 0, false, doing{again: again(3)}},
			{7, 0, false, doing{yield: true}},
			{9, 0, false, doing{}},
			{60, 0, true, doing{restore: true, check: true, replug: true}},
			{61, 0, true, doing{}},
		},
		"plugged before it yields": {
			{1, 0, false, doing{again: again(5)}},
			{5, 0, true, doing{check: true, replug: true}},
		},
		"several in a row": {
			{1, 0, true, doing{}},
			{2, 0, false, doing{again: again(5)}},
			{3, 0, true, doing{check: true, replug: true}},
			{4, 0, false, doing{again: again(5)}},
			{9, 0, false, doing{yield: true}},
			{10, 0, true, doing{restore: true, check: true, replug: true}},
			{11, 0, false, doing{again: again(5)}},
			{11.2, 0, true, doing{check: true}},
			{12, 0, false, doing{again: again(5)}},
			{17, 0, false, doing{yield: true}},
		},
		"slept with the cable in": {
			{1, 0, true, doing{}},
			{2, 3600, true, doing{slept: true, check: true, replug: true}},
			{3, 3600, true, doing{}},
		},
		"slept, and pulled meanwhile": {
			{1, 0, true, doing{}},
			{2, 3600, false, doing{slept: true, again: again(5)}},
			{4, 3600, true, doing{check: true, replug: true}},
		},
		"pulled, slept, plugged": {
			{1, 0, false, doing{again: again(5)}},
			{6, 0, false, doing{yield: true}},
			{7, 60, true, doing{slept: true, restore: true, check: true, replug: true}},
		},
		"asleep for a moment": {
			{1, 0, true, doing{}},
			{2, 1, true, doing{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var c cable
			for _, a := range list {
				got := c.look(a.carrier, Clock{again(a.awake + a.asleep), again(a.awake)})
				if got != a.want {
					t.Errorf("at %v: got %+v, want %+v", a, got, a.want)
				}
			}
		})
	}
}
