package images

import (
	"testing"
	"time"
)

// What is shown of a download that goes on with a part: the speed is that of this call.
func TestMeter(t *testing.T) {
	const mib = 1 << 20
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	var m Meter
	for _, step := range []struct {
		e    Event
		at   int
		want string
	}{
		{Event{Stage: Looking, Total: -1}, 0, "looking up its checksum"},
		{Event{Stage: Downloading, Done: 100 * mib, Total: 300 * mib}, 1, "downloading 33% of 300.0 MiB"},
		{Event{Stage: Downloading, Done: 120 * mib, Total: 300 * mib}, 3, "downloading 40% of 300.0 MiB, 10.0 MiB/s, 18s left"},
		{Event{Stage: Downloading, Done: 300 * mib, Total: 300 * mib}, 21, "downloading 100% of 300.0 MiB, 10.0 MiB/s"},
		{Event{Stage: Downloading, Done: 300 * mib, Total: -1}, 21, "downloading 300.0 MiB, 10.0 MiB/s"},
		{Event{Stage: Converting, Done: 7, Total: 100}, 22, "converting to qcow2, 7%"},
		{Event{Stage: Waiting, Total: -1}, 30, "another qnet pulls it"},
	} {
		if got := m.Text(step.e, at(step.at)); got != step.want {
			t.Errorf("%+v: got %q, want %q", step.e, got, step.want)
		}
	}
}
