package standstill

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qnet-vm/qnet/qemu/qmp"
)

// fakeMachine answers QMP as a QEMU whose run state the test sets.
type fakeMachine struct {
	conn net.Conn

	mu       sync.Mutex
	state    string
	failed   map[string]string // io-status by qdev
	commands []string          // that change something
	onCont   func() string     // the state after "cont"
	asked    int               // how often it was asked for its state
	hangs    bool              // it reads, and does not answer
}

// watched connects a VM with two disks to a fake machine, and notes what Watch tells.
func watched(t *testing.T) (*fakeMachine, *Guest, func() []Incident) {
	t.Helper()
	ours, theirs := net.Pipe()
	m := &fakeMachine{conn: theirs, state: "running", failed: map[string]string{}}
	m.onCont = func() string { return "running" }
	monitor := qmp.New(ours)
	guest := New(monitor, []Disk{{File: "/d/a.raw"}, {File: "/d/b.qcow2", Grows: "/var/tmp"}})
	go m.serve()
	if err := monitor.ConnectContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []Incident
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		guest.Watch(context.Background(), func(i Incident) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, i)
		})
	}()
	t.Cleanup(func() {
		theirs.Close()
		<-ended
	})
	return m, guest, func() []Incident {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		list := told
		told = nil
		return list
	}
}

func (m *fakeMachine) serve() {
	fmt.Fprintln(m.conn, `{"QMP":{"version":{"qemu":{"major":8,"minor":0,"micro":0},"package":""},"capabilities":[]}}`)
	for in := bufio.NewScanner(m.conn); in.Scan(); {
		var c struct{ Execute, ID string }
		if json.Unmarshal(in.Bytes(), &c) == nil && !m.hang(c.Execute) {
			fmt.Fprintf(m.conn, `{"return":%s,"id":%q}`+"\n", m.answer(c.Execute), c.ID)
		}
	}
}

// hang counts a question, and reports whether there is no answer.
func (m *fakeMachine) hang(command string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if command == "query-status" {
		m.asked++
	}
	return m.hangs
}

// hanging sets whether the machine hangs, and returns how often it was asked until now.
func (m *fakeMachine) hanging(hangs bool) (asked int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hangs = hangs
	return m.asked
}

func (m *fakeMachine) answer(command string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch command {
	case "query-status":
		return fmt.Sprintf(`{"status":%q}`, m.state)
	case "query-block":
		var list []map[string]string
		for qdev, status := range m.failed {
			list = append(list, map[string]string{"qdev": qdev, "io-status": status})
		}
		slices.SortFunc(list, func(a, b map[string]string) int { return strings.Compare(a["qdev"], b["qdev"]) })
		b, _ := json.Marshal(list)
		return string(b)
	case "cont":
		m.state = m.onCont()
	case "stop":
		m.state = "paused"
	}
	if command != "qmp_capabilities" {
		m.commands = append(m.commands, command)
	}
	return "{}"
}

// did returns and forgets the commands that changed something.
func (m *fakeMachine) did() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.commands
	m.commands = nil
	return list
}

// becomes sets the run state and sends events.
func (m *fakeMachine) becomes(state string, events ...string) {
	m.mu.Lock()
	m.state = state
	m.mu.Unlock()
	for _, e := range events {
		fmt.Fprintln(m.conn, e)
	}
}

func event(name, data string) string { return fmt.Sprintf(`{"event":%q,"data":{%s}}`, name, data) }

var stop, resume = event("STOP", ""), event("RESUME", "")

const overlay = "/machine/peripheral/disk1/virtio-backend"

// fill lets a disk stop the guest.
func (m *fakeMachine) fill(qdev, status, reason string) {
	m.mu.Lock()
	m.failed[qdev] = status
	m.mu.Unlock()
	m.becomes("io-error", event("BLOCK_IO_ERROR", fmt.Sprintf(`"node-name":"image1","operation":"write","action":"stop","reason":%q`, reason)), stop)
}

// texts are those of the incidents, with their remedies.
func texts(list []Incident) string {
	var all []string
	for _, i := range list {
		if i.Text != "" {
			all = append(all, i.Text+"; "+i.Remedy)
		}
	}
	return strings.Join(all, "\n")
}

// Each run state that is not "running" is worded of its own, once.
func TestWatchTellsRunStates(t *testing.T) {
	for _, c := range []struct{ state, event, kind, short, text string }{
		{"paused", stop, "paused", "", "is paused by a command to QEMU"},
		{"prelaunch", stop, "paused", "", "is paused by a command to QEMU"},
		{"internal-error", stop, "paused", "internal error", "internal error of QEMU"},
		{"watchdog", stop, "paused", "watchdog", "paused by the guest's watchdog"},
		{"debug", stop, "paused", "debugger", "for a debugger"},
		{"shutdown", stop, "paused", "shut down", "has shut down, and QEMU stays"},
		{"guest-panicked", event("GUEST_PANICKED", `"action":"pause"`), "panicked", "", "its guest's kernel crashed"},
		{"running", event("GUEST_PANICKED", `"action":"run"`), "panicked", "", "its guest's kernel crashed"},
		{"suspended", event("SUSPEND", ""), "suspended", "", "its guest sleeps"},
	} {
		t.Run(c.state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _, told := watched(t)
				told()
				m.becomes(c.state, c.event, c.event)
				got := told()
				if len(got) != 1 || string(got[0].Halt.Kind) != c.kind || got[0].Halt.Short() != c.short || !strings.Contains(texts(got), c.text) {
					t.Errorf("got %+v, want %+v", got, c)
				}
				m.becomes("running", event("RESET", ""), resume)
				if got := told(); len(got) == 0 || got[len(got)-1].Halt.Kind != Runs {
					t.Errorf("after a reset: %+v", got)
				}
			})
		})
	}
}

// A halt that happened before Watch began, or whose event was lost, comes first.
func TestWatchAsksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		m := &fakeMachine{conn: theirs, state: "internal-error"}
		monitor := qmp.New(ours)
		guest := New(monitor, nil)
		go m.serve()
		if err := monitor.ConnectContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		guest.Watch(ctx, func(i Incident) {
			if i.Halt.Why != whyInternal {
				t.Errorf("got %+v", i)
			}
			cancel()
		})
		theirs.Close()
		synctest.Wait()
	})
}

// A guest that a full disk stopped is let go on, the more seldom the longer it stands. It
// counts as running when it has run for a moment.
func TestWatchResumesAGuestOfAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, told := watched(t)
		told()
		m.onCont = func() string { return "io-error" } // still full: the write fails again
		m.fill(overlay, "nospace", "No space left on device")
		got := told()
		if len(got) != 1 || got[0].Halt.Short() != "no space: b.qcow2" || !slices.Equal(got[0].Halt.Disks, []string{"/d/b.qcow2"}) ||
			!strings.Contains(texts(got), `no space left for the temporary overlay of disk "/d/b.qcow2", in /var/tmp; make room`) {
			t.Errorf("got %+v", got)
		}
		time.Sleep(time.Hour)
		got = told()
		if tries := len(m.did()); tries < 3600/16 || tries > 3600/15+20 || len(got) > 0 {
			t.Errorf("%d tries within an hour, and told %+v", tries, got)
		}
		m.mu.Lock()
		m.onCont = func() string { return "running" }
		m.mu.Unlock()
		time.Sleep(retryLast + proofTime)
		if got := told(); len(got) != 1 || got[0].Halt.Kind != Runs || got[0].Text != "goes on" {
			t.Errorf("with room: got %+v", got)
		}
		m.did()
		time.Sleep(time.Hour)
		if did := m.did(); len(did) > 0 {
			t.Errorf("a guest that runs gets %v", did)
		}
	})
}

// A guest that its user paused is left alone.
func TestWatchLeavesAPausedGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, _ := watched(t)
		m.becomes("paused", stop)
		time.Sleep(time.Hour)
		if did := m.did(); len(did) > 0 {
			t.Errorf("it gets %v", did)
		}
	})
}

// A quota and other errors have words of their own.
func TestWatchWordsDiskErrors(t *testing.T) {
	for reason, want := range map[string]string{
		"Disk quota exceeded": "quota: b.qcow2", "Input/output error": "I/O error: b.qcow2",
	} {
		synctest.Test(t, func(t *testing.T) {
			m, _, told := watched(t)
			told()
			m.fill(overlay, "failed", reason)
			if got := told(); len(got) != 1 || got[0].Halt.Short() != want {
				t.Errorf("%s: got %+v", reason, got)
			}
		})
	}
}

// Events of a guest that runs on are said, the same not more than once a minute, and none is
// lost for good.
func TestWatchTellsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, told := watched(t)
		told()
		for event, want := range map[string]string{
			event("BLOCK_IO_ERROR", `"node-name":"image0","operation":"read","action":"report","reason":"Input/output error"`): `cannot read from disk "/d/a.raw": Input/output error`,
			event("BLOCK_IO_ERROR", `"node-name":"other","operation":"write","action":"ignore","reason":"x\u001b"`):            `cannot write to disk "other": x\x1b`,
			event("BLOCK_IMAGE_CORRUPTED", `"node-name":"image1","msg":"bad","fatal":true`):                                    `the image of disk "/d/b.qcow2" corrupt: bad`,
			event("WATCHDOG", `"action":"reset"`):                            `watchdog was not served, and QEMU's action is "reset"`,
			event("MEMORY_FAILURE", `"recipient":"guest","action":"inject"`): "hardware error in the host's memory",
			event("SUSPEND_DISK", ""):                                        "hibernates",
			event("GUEST_CRASHLOADED", `"action":"run"`):                     "starts its crash kernel",
			event("BLOCK_JOB_ERROR", `"device":"j","operation":"read"`):      `block job "j"`,
			event("RESET", `"guest":true`):                                   "its guest starts again",
		} {
			m.becomes("running", event)
			if got := texts(told()); !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		reset := event("RESET", "")
		m.becomes("running", slices.Repeat([]string{reset}, 200)...)
		if got := texts(told()); got != "" {
			t.Errorf("told again at once: %q", got)
		}
		time.Sleep(quietTime)
		m.becomes("running", reset)
		if got := texts(told()); !strings.Contains(got, "(200 more times since") {
			t.Errorf("got %q", got)
		}
	})
}

// The power button is pressed where the guest can hear it: woken, or let go on before.
func TestPress(t *testing.T) {
	for _, c := range []struct {
		state string
		want  []string
		still bool
	}{
		{"running", []string{"system_powerdown"}, false},
		{"paused", []string{"cont", "system_powerdown"}, false},
		{"io-error", []string{"cont", "system_powerdown"}, false},
		{"suspended", []string{"system_wakeup", "system_powerdown"}, false},
		{"internal-error", nil, true},
		{"guest-panicked", nil, true},
		{"watchdog", nil, true},
		{"debug", []string{"cont", "system_powerdown"}, false},
		{"shutdown", nil, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, guest, _ := watched(t)
			synctest.Wait()
			m.becomes(c.state)
			if err := guest.Press(t.Context()); errors.Is(err, ErrDeaf) != c.still || err != nil && !c.still {
				t.Errorf("%s: got %v", c.state, err)
			}
			if got := m.did(); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %v, want %v", c.state, got, c.want)
			}
			m.becomes("io-error")
			if err := guest.Press(t.Context()); !c.still && !errors.Is(err, ErrDeaf) {
				t.Errorf("%s: its disk stops it again: got %v", c.state, err)
			}
		})
	}
}

// The watch tells a panic from its event, also when QEMU hangs. It does not ask a QEMU that ends:
// it may hang by that. It tells when QEMU does not end.
func TestWatchDoesNotAskAQEMUThatEnds(t *testing.T) {
	for _, c := range []struct{ event, told string }{
		{event("GUEST_PANICKED", `"action":"poweroff"`), "its guest's kernel crashed"},
		{"", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, guest, told := watched(t)
			told()
			asked := m.hanging(true)
			if c.event != "" {
				m.becomes("guest-panicked", c.event)
			}
			m.becomes("shutdown", event("SHUTDOWN", `"guest":true`))
			if got := texts(told()); !strings.Contains(got, c.told) || !guest.Ends() {
				t.Errorf("got %q, want %q", got, c.told)
			}
			if err := guest.Press(t.Context()); err != nil {
				t.Error(err)
			}
			time.Sleep(endTime)
			if got := texts(told()); !strings.Contains(got, "has shut down, and QEMU stays") {
				t.Errorf("after %s: %q", endTime, got)
			}
			time.Sleep(time.Hour)
			if n := m.hanging(false) - asked; n > 0 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// With -no-shutdown, QEMU stops in place of its end.
func TestWatchAsksAQEMUThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, guest, told := watched(t)
		told()
		m.becomes("shutdown", event("SHUTDOWN", `"guest":true`), stop)
		if got := told(); len(got) != 1 || got[0].Halt.Why != whyShutdown || guest.Ends() {
			t.Errorf("got %+v", got)
		}
	})
}

// What QEMU did not answer is asked again.
func TestWatchAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, told := watched(t)
		told()
		m.hanging(true)
		m.becomes("internal-error", stop)
		time.Sleep(time.Minute)
		if got := told(); len(got) > 0 {
			t.Errorf("without an answer: %+v", got)
		}
		m.hanging(false)
		time.Sleep(2 * retryLast)
		if got := told(); len(got) != 1 || got[0].Halt.Why != whyInternal {
			t.Errorf("got %+v", got)
		}
	})
}
