package standstill

import (
	"context"
	"fmt"
	"time"

	goqmp "github.com/digitalocean/go-qemu/qmp"
)

const (
	// retryFirst and retryLast bound the time between two attempts to let a guest go on
	// that a disk stopped. The longer it has stood, the more seldom: a quarter of that time.
	retryFirst = time.Second
	retryLast  = 15 * time.Second
	// proofTime is how long a guest must run after an attempt before it counts as running:
	// the write that failed is done again at once.
	proofTime = 500 * time.Millisecond
	// quietTime is how long the same incident is not told again.
	quietTime = time.Minute
	// endTime is how long QEMU may take to write its disks' data and end, after it said so.
	endTime = 10 * time.Second
)

// Incident is something that happened to a guest while it ran.
type Incident struct {
	Halt   Halt   // whether the guest stands still after it
	Text   string // a sentence without its subject, which is the VM: "is paused: ..."; "" tells only Halt
	Remedy string // what the user can do about it; "" if nothing
	Minor  bool   // for the log only
}

// Watch tells what happens to the guest, first whether it runs now, until the process ends
// or ctx does. It lets a guest that a disk stopped go on as soon as the disk takes what the
// guest writes. It is called once, when the guest was let run; tell is not called concurrently.
func (g *Guest) Watch(ctx context.Context, tell func(Incident)) {
	events, _ := g.monitor.Events(ctx) // has no error to give
	w := watcher{guest: g, tell: tell, told: map[string]*telling{}, timer: time.NewTimer(0)}
	defer w.timer.Stop()
	for {
		select {
		case e, more := <-events:
			if !more {
				return
			}
			w.hear(ctx, e)
		case <-w.timer.C:
			w.tick(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// watcher is one call of Watch.
type watcher struct {
	guest *Guest
	tell  func(Incident)
	told  map[string]*telling // by what was said
	timer *time.Timer

	halt   Halt
	since  time.Time // of the halt
	trying bool      // the guest was let go on, and has yet to prove that it runs
	silent bool      // the halt was not told: the same was, less than quietTime ago
}

// telling is when an incident was told, and how often it happened since.
type telling struct {
	at   time.Time
	more int
}

// say tells an incident, unless it told the same less than quietTime ago: a guest can
// cause thousands in a second. It reports whether it did.
func (w *watcher) say(i Incident) bool {
	t := w.told[i.Text]
	if t == nil {
		t = &telling{}
		w.told[i.Text] = t
	}
	if !t.at.IsZero() && time.Since(t.at) < quietTime {
		t.more++
		w.tell(Incident{Halt: i.Halt})
		return false
	}
	if t.more > 0 {
		i.Text += fmt.Sprintf(" (%d more times since the last such message)", t.more)
	}
	*t = telling{at: time.Now()}
	w.tell(i)
	return true
}

// hear looks at one event of QEMU (qapi/run-state.json, qapi/block-core.json).
func (w *watcher) hear(ctx context.Context, e goqmp.Event) {
	w.guest.Note(e)
	switch e.Event {
	case "STOP":
		w.trying = false
		w.look(ctx)
	case "RESUME":
		if !w.trying { // another program's doing, or Cont's
			w.look(ctx)
		}
	case "SUSPEND", "WAKEUP":
		w.look(ctx)
	case "GUEST_PANICKED":
		w.becomes(Halt{Kind: Panicked})
	case "SHUTDOWN":
		w.plan()
	case "RESET":
		if w.halt.Kind == Runs {
			w.say(Incident{Text: "was reset: its guest starts again", Minor: true})
		}
		w.look(ctx)
	default:
		if i, worth := w.guest.incidentOf(e); worth {
			i.Halt = w.halt
			w.say(i)
		}
	}
}

// look asks QEMU whether the guest runs, and tells a change.
func (w *watcher) look(ctx context.Context) {
	h, err := w.guest.Halt(ctx)
	switch {
	case w.guest.Ends(): // by the end of the answer, too
		w.plan()
	case err != nil: // QEMU hangs, perhaps on a host's disk, or has ended
		w.timer.Reset(retryLast)
	default:
		w.guest.sleeps.Store(h.Kind == Suspended)
		w.becomes(h)
	}
}

// becomes takes whether the guest runs, and tells a change.
func (w *watcher) becomes(h Halt) {
	if h.Kind == w.halt.Kind && h.Short() == w.halt.Short() {
		w.plan()
		return
	}
	before := w.halt
	w.halt, w.since = h, time.Now()
	switch i := w.guest.incidentOfHalt(h); {
	case h.Kind != Runs:
		w.silent = !w.say(i)
	case w.silent:
		w.silent = false
		w.tell(Incident{Halt: h})
	default:
		w.tell(Incident{Halt: h, Text: goesOn(before), Minor: before.Why == ForSaving})
	}
	w.plan()
}

// plan sets the timer for the next attempt to let the guest go on, for telling a halt that
// was not told, or for a QEMU that says that it ends and does not.
func (w *watcher) plan() {
	w.timer.Stop()
	switch {
	case w.guest.Ends():
		w.timer.Reset(endTime)
	case w.halt.heals():
		w.timer.Reset(min(max(time.Since(w.since)/4, retryFirst), retryLast))
	case w.silent:
		w.timer.Reset(quietTime)
	}
}

// tick is called when the timer is due.
func (w *watcher) tick(ctx context.Context) {
	if w.guest.Ends() {
		w.trying = false
		w.becomes(Halt{Kind: Paused, Why: whyShutdown})
		return
	}
	if w.silent && !w.trying {
		w.silent = !w.say(w.guest.incidentOfHalt(w.halt))
	}
	if w.trying || !w.halt.heals() {
		w.trying = false
		w.look(ctx)
		return
	}
	if w.guest.resume(ctx) != nil {
		w.plan()
		return
	}
	w.trying = true
	w.timer.Reset(proofTime)
}

// resume lets a guest go on that stands still.
func (g *Guest) resume(ctx context.Context) error { return g.monitor.Execute(ctx, "cont", nil, nil) }
