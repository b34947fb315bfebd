package cli

import (
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/qemu"
)

// guestTime is how long a guest has to shut down, unless --timeout says otherwise.
const guestTime = 30 * time.Second

// rungWait says what a rung of the shutdown ladder waits for, and what comes next.
func rungWait(rung string, timeout time.Duration) string {
	switch rung {
	case qemu.RungPowerdown:
		return fmt.Sprintf("the guest to shut down; after %s QEMU is told to quit", timeout)
	case qemu.RungQuit:
		return "QEMU to quit; then it gets SIGKILL"
	}
	return "the end of QEMU"
}

// rungDelay is how long a rung may take before the user reads of it.
const rungDelay = 500 * time.Millisecond

// rungs returns a function that prints, on a terminal that shows the guest's console,
// which rung of the ladder takes long. The line stays: to erase it might erase what the
// guest wrote.
func (a *app) rungs(vm string) func(rung string) {
	late := time.AfterFunc(0, func() {})
	key := "Ctrl-C"
	if a.Terminal != nil && a.Terminal.HasKeys() {
		key = "Ctrl-] q"
	}
	return func(rung string) {
		late.Stop()
		if rung != "" && a.OnTerminal() {
			late = time.AfterFunc(rungDelay, func() {
				a.Talk("%s: waiting for %s; %s again does it now", vm, rungWait(rung, guestTime), key)
			})
		}
	}
}
