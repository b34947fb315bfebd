package images

import (
	"fmt"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/images/fetch"
)

// Meter words events for people. It belongs to one goroutine.
type Meter struct {
	stage Stage
	began time.Time // of the stage
	from  int64     // what was there when it began
}

// Begins reports whether an event is the first of its stage.
func (m *Meter) Begins(e Event, now time.Time) bool {
	if e.Stage == m.stage {
		return false
	}
	m.stage, m.began, m.from = e.Stage, now, e.Done
	return true
}

// Text returns what is going on: how much there is, how fast it comes, and how long the rest
// takes. The image is not named.
func (m *Meter) Text(e Event, now time.Time) string {
	m.Begins(e, now)
	words := map[Stage]string{
		Waiting: "another qnet pulls it", Looking: "looking up its checksum", Downloading: "downloading", Unpacking: "unpacking",
		Converting: "converting to qcow2", Hashing: "computing its digest", Ready: "verified",
	}[e.Stage]
	switch {
	case e.Stage == Converting:
		return fmt.Sprintf("%s, %d%%", words, e.Done)
	case e.Total > 0:
		words = fmt.Sprintf("%s %d%% of %s", words, 100*e.Done/e.Total, fetch.Bytes(e.Total))
	case e.Done > 0:
		words = fmt.Sprintf("%s %s", words, fetch.Bytes(e.Done))
	}
	return strings.Join(append([]string{words}, m.speed(e, now)...), ", ")
}

// speed returns how fast it comes, and how long the rest takes, once that can be told.
func (m *Meter) speed(e Event, now time.Time) []string {
	took, came := now.Sub(m.began).Seconds(), float64(e.Done-m.from)
	if took <= 0 || came <= 0 {
		return nil
	}
	parts := []string{fetch.Bytes(int64(came/took)) + "/s"}
	if e.Total > e.Done {
		left := time.Duration(float64(e.Total-e.Done) * took / came * float64(time.Second))
		parts = append(parts, left.Round(time.Second).String()+" left")
	}
	return parts
}
