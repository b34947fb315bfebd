package images

import (
	"fmt"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/images"
	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/internal/signals"
)

const (
	lineEvery  = 200 * time.Millisecond // on a terminal
	plainEvery = 10 * time.Second       // elsewhere
)

// meter shows a pull.
type meter struct {
	*call.Call
	now   func() time.Time
	stage images.Stage
	began time.Time // of the stage
	from  int64     // what was there when it began
	next  time.Time // when to show the next event
}

// Progress returns a function that shows how far a pull is: in one line on a terminal, that
// is drawn anew, and elsewhere in a line now and then. done ends that.
func Progress(c *call.Call) (report images.Progress, done func()) {
	m := &meter{Call: c, now: time.Now}
	erase := func() { c.Say(func() { c.Line.Set("") }) }
	stop := signals.OnInterrupt(func() {
		c.Line.Set("")
		if m.stage == images.Downloading {
			c.Talk("the part that came is kept; the same command goes on from there")
		}
	})
	return m.show, func() {
		stop()
		erase()
	}
}

// show is an images.Progress.
func (m *meter) show(e images.Event) {
	now := m.now()
	if e.Stage != m.stage {
		m.stage, m.began, m.from, m.next = e.Stage, now, e.Done, now.Add(plainEvery)
		m.begin(e)
		return
	}
	if now.Before(m.next) {
		return
	}
	if m.Line.OnTerminal() {
		m.next = now.Add(lineEvery)
		m.Say(func() { m.Line.Set(e.Image + ": " + m.bar(e, now)) })
		return
	}
	m.next = now.Add(plainEvery)
	m.Talk("%s: %s", e.Image, m.text(e, now))
}

// begin shows the first event of a stage.
func (m *meter) begin(e images.Event) {
	text := fmt.Sprintf("%s: %s", e.Image, map[images.Stage]string{
		images.Waiting: "another qnet pulls it; waiting for that", images.Looking: "looking up its checksum", images.Unpacking: "unpacking it",
		images.Converting: "converting it to qcow2", images.Hashing: "computing its digest",
	}[e.Stage])
	switch e.Stage {
	case images.Ready:
		m.Say(func() { m.Line.Set("") })
		m.Talk("%s: pulled, %s, checksum verified", e.Image, fetch.Bytes(e.Total))
		return
	case images.Downloading:
		text = fmt.Sprintf("%s: downloading %sfrom %s", e.Image, sizeOf(e), e.From)
	}
	if m.Line.OnTerminal() {
		m.next = m.began
		m.Say(func() { m.Line.Set(text) })
		return
	}
	if e.Stage != images.Looking && e.Stage != images.Hashing {
		m.Talk("%s", text)
	}
}

func sizeOf(e images.Event) string {
	if e.Total < 0 {
		return ""
	}
	return fetch.Bytes(e.Total) + " "
}

const barWidth = 20

// bar returns a picture of how far it is, with text.
func (m *meter) bar(e images.Event, now time.Time) string {
	if e.Total <= 0 {
		return m.text(e, now)
	}
	full := int(barWidth * min(e.Done, e.Total) / e.Total)
	return fmt.Sprintf("[%s%s] %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), m.text(e, now))
}

// text returns how much there is, how fast it comes, and how long the rest takes.
func (m *meter) text(e images.Event, now time.Time) string {
	if e.Stage == images.Converting {
		return fmt.Sprintf("converting it to qcow2, %d%%", e.Done)
	}
	parts := []string{string(e.Stage) + " " + fetch.Bytes(e.Done)}
	if e.Total > 0 {
		parts = []string{fmt.Sprintf("%s %d%% of %s", e.Stage, 100*e.Done/e.Total, fetch.Bytes(e.Total))}
	}
	came := float64(e.Done - m.from)
	if took := now.Sub(m.began).Seconds(); took > 0 && came > 0 {
		parts = append(parts, fetch.Bytes(int64(came/took))+"/s")
		if e.Total > e.Done {
			left := time.Duration(float64(e.Total-e.Done) * took / came * float64(time.Second))
			parts = append(parts, left.Round(time.Second).String()+" left")
		}
	}
	return strings.Join(parts, ", ")
}
