package standstill

import (
	"fmt"

	goqmp "github.com/digitalocean/go-qemu/qmp"

	"github.com/qnet-vm/qnet/internal/legible"
)

// incidentOfHalt words why a guest stands still.
func (g *Guest) incidentOfHalt(h Halt) Incident {
	i := Incident{Halt: h}
	switch {
	case h.Kind == Suspended:
		i.Text, i.Remedy = "is suspended: its guest sleeps", `a timer of its own wakes it, or "qnet stop" before it shuts it down`
	case h.Kind == Panicked:
		i.Text, i.Remedy = "panicked: its guest's kernel crashed", "its console says why"
	case h.Why == whyNoSpace:
		i.Text, i.Remedy = "is paused: no space left for "+g.full(h.Disks), "make room: it goes on by itself"
	case h.Why == whyQuota:
		i.Text, i.Remedy = "is paused: the disk quota is exceeded by "+g.full(h.Disks), "make room: it goes on by itself"
	case h.Why == whyIO:
		i.Text, i.Remedy = "is paused: the host cannot write to "+g.full(h.Disks), "it goes on by itself when the host can"
	case h.Why == whyInternal:
		i.Text, i.Remedy = "is paused: internal error of QEMU", `qemu.log may tell more; "qnet stop" ends it`
	case h.Why == whyShutdown:
		i.Text, i.Remedy = "has shut down, and QEMU stays", `"qnet stop" ends it`
	case h.Why == whyWatchdog:
		i.Text = "is paused by the guest's watchdog"
	case h.Why == ByUser:
		i.Text, i.Remedy = "is paused by qnet pause", `"qnet resume" lets it go on`
	case h.Why == ForSaving:
		i.Text, i.Minor = "is paused while it is saved", true
	case h.Why == "debugger":
		i.Text = "is paused for a debugger"
	default:
		i.Text = "is paused by a command to QEMU"
	}
	return i
}

// goesOn words the end of a halt.
func goesOn(before Halt) string {
	switch before.Kind {
	case Runs:
		return ""
	case Suspended:
		return "woke up"
	case Panicked:
		return "was reset after its panic: its guest starts again"
	}
	return "goes on"
}

// incidentOf words an event after which the guest may run on.
func (g *Guest) incidentOf(e goqmp.Event) (i Incident, worth bool) {
	switch e.Event {
	case "BLOCK_IO_ERROR":
		return g.diskError(e)
	case "BLOCK_IMAGE_CORRUPTED":
		return Incident{
			Text:   fmt.Sprintf("found the image of disk %q corrupt: %s", g.diskOf(e), text(e, "msg")),
			Remedy: "stop it, and look with: qemu-img check",
		}, true
	case "BLOCK_JOB_ERROR":
		return Incident{Text: fmt.Sprintf("had an error in the block job %q: %s", text(e, "device"), text(e, "operation"))}, true
	case "WATCHDOG":
		return Incident{Text: fmt.Sprintf("hangs: its guest's watchdog was not served, and QEMU's action is %q", text(e, "action"))}, true
	case "MEMORY_FAILURE":
		return Incident{
			Text:   fmt.Sprintf("met a hardware error in the host's memory (recipient %s, action %s)", text(e, "recipient"), text(e, "action")),
			Remedy: "look with: dmesg",
		}, true
	case "GUEST_CRASHLOADED":
		return Incident{Text: "panicked: its guest's kernel crashed and starts its crash kernel", Remedy: "its console says why"}, true
	case "SUSPEND_DISK":
		return Incident{Text: "hibernates: its guest saved itself to its disk", Minor: true}, true
	}
	return Incident{}, false
}

// diskError words a disk's error that QEMU reported to the guest, or ignored. The Halt has
// the words for a disk that stopped the guest.
func (g *Guest) diskError(e goqmp.Event) (i Incident, worth bool) {
	n, reason := diskIndex(text(e, "node-name"), "image"), text(e, "reason")
	g.noteError(n, reason)
	if text(e, "action") == "stop" {
		return i, false
	}
	did := "read from"
	if text(e, "operation") == "write" {
		did = "write to"
	}
	return Incident{
		Text:   fmt.Sprintf("cannot %s disk %q: %s; its guest gets an I/O error", did, g.diskOf(e), reason),
		Remedy: "look with: dmesg",
	}, true
}

// diskOf is the file of the disk that an event is about.
func (g *Guest) diskOf(e goqmp.Event) string {
	node := text(e, "node-name")
	return g.diskName(diskIndex(node, "image"), node)
}

// text returns a field of an event, made printable.
func text(e goqmp.Event, key string) string {
	s, _ := e.Data[key].(string)
	return legible.Text(s)
}
