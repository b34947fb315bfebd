package guestwatch

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab/fakewire"
)

// Run reports each new stage once. A tap receives what a macvtap link sends.
func TestRun(t *testing.T) {
	for _, macvtap := range []bool{false, true} {
		wire := fakewire.New()
		pass := func(frame []byte, toGuest bool) {
			if toGuest != macvtap {
				wire.Sent(frame)
			} else {
				wire.Receive(frame)
			}
		}
		wire.Fail(unix.ENETDOWN)
		var want []Stage
		for _, f := range frames {
			pass(f.frame, f.out)
			pass(f.frame, f.out) // again: nothing new, except a refusal
			if f.stage != Frame {
				want = append(want, f.stage)
			}
		}
		p := &Port{conn: wire, mac: guest, macvtap: macvtap}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		var stages []Stage
		var last State
		p.Run(State{}, func(s State) {
			if len(stages) == 0 || stages[len(stages)-1] != s.Last() {
				stages = append(stages, s.Last())
			}
			last = s
		})
		if want = append([]Stage{Frame}, want...); !slices.Equal(stages, want) {
			t.Errorf("macvtap %v: got %v, want %v", macvtap, stages, want)
		}
		if last.NAKs != 2 || len(last.Addresses) != 2 || last.Addresses[0] != mine {
			t.Errorf("macvtap %v: got %+v", macvtap, last)
		}
		if len(wire.Filter()) != len(telling) {
			t.Errorf("macvtap %v: other frames still wake the process up", macvtap)
		}
	}
}

func TestOpenNoSuchLink(t *testing.T) {
	if _, err := Open(-1, guest, false); err == nil {
		t.Error("a link that is not there, or no right to open it")
	}
}
