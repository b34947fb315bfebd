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

// display shows a pull.
type display struct {
	*call.Call
	now      func() time.Time
	meter    images.Meter
	download bool      // it is what goes on
	next     time.Time // when to show the next event
}

// Progress returns a function that shows how far a pull is: in one line on a terminal, that
// is drawn anew, and elsewhere in a line now and then. done ends that.
func Progress(c *call.Call) (report images.Progress, done func()) {
	d := &display{Call: c, now: time.Now}
	erase := func() { c.Say(func() { c.Line.Set("") }) }
	stop := signals.OnInterrupt(func() {
		c.Line.Set("")
		if d.download {
			c.Talk("the part that came is kept; the same command goes on from there")
		}
	})
	return d.show, func() {
		stop()
		erase()
	}
}

// show is an images.Progress.
func (d *display) show(e images.Event) {
	now := d.now()
	if d.meter.Begins(e, now) {
		d.begin(e, now)
		return
	}
	if now.Before(d.next) {
		return
	}
	text := d.meter.Text(e, now)
	if d.Line.OnTerminal() {
		d.next = now.Add(lineEvery)
		d.Say(func() { d.Line.Set(e.Image + ": " + bar(e) + text) })
		return
	}
	d.next = now.Add(plainEvery)
	d.Talk("%s: %s", e.Image, text)
}

// begin shows the first event of a stage.
func (d *display) begin(e images.Event, now time.Time) {
	d.download, d.next = e.Stage == images.Downloading, now.Add(plainEvery)
	text := d.meter.Text(e, now)
	switch e.Stage {
	case images.Ready:
		d.Say(func() { d.Line.Set("") })
		d.Talk("%s: pulled, %s, checksum verified", e.Image, fetch.Bytes(e.Total))
		return
	case images.Downloading:
		size := ""
		if e.Total > 0 {
			size = fetch.Bytes(e.Total) + " "
		}
		text = fmt.Sprintf("downloading %sfrom %s", size, e.From)
	case images.Waiting:
		text += "; waiting for that"
	}
	if d.Line.OnTerminal() {
		d.next = now
		d.Say(func() { d.Line.Set(e.Image + ": " + text) })
		return
	}
	if e.Stage != images.Looking && e.Stage != images.Hashing { // which take a moment
		d.Talk("%s: %s", e.Image, text)
	}
}

const barWidth = 20

// bar returns a picture of how far it is, "" if that is not known.
func bar(e images.Event) string {
	if e.Total <= 0 {
		return ""
	}
	full := int(barWidth * min(e.Done, e.Total) / e.Total)
	return fmt.Sprintf("[%s%s] ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full))
}
