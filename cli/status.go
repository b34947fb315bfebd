package cli

import (
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/qemu"
)

// waits shows on the status line what a VM waits for; "" ends the wait.
func (a *app) waits(vm string) func(what string) {
	return func(what string) {
		if what != "" {
			what = fmt.Sprintf("%s: waiting for %s", vm, what)
		}
		a.line.Set(what)
	}
}

// during shows on the status line what f takes its time for.
func (a *app) during(what string, f func()) {
	gone := func() { a.line.Set("") }
	defer onInterrupt(gone)()
	defer gone()
	a.line.Set("waiting for " + what)
	f()
}

// guestTime is how long a guest has to shut down, unless somebody says otherwise.
const guestTime = 30 * time.Second

// rungWait is what a rung of the shutdown ladder waits for, and what comes next.
func rungWait(rung string, timeout time.Duration) string {
	switch rung {
	case qemu.RungPowerdown:
		return fmt.Sprintf("the guest to shut down; after %s QEMU is told to quit", timeout)
	case qemu.RungQuit:
		return "QEMU to quit; then it gets SIGTERM"
	case qemu.RungTerm:
		return "QEMU to end by SIGTERM; then it gets SIGKILL"
	}
	return "the end of QEMU"
}

// rungTime is how long a rung may take without a word.
const rungTime = 500 * time.Millisecond

// rungs tells, on a terminal that the guest's console has, which rung of the ladder
// takes long. It is a line that stays: what could be erased may be the guest's.
func (a *app) rungs(vm string) func(rung string) {
	soon := time.AfterFunc(0, func() {})
	key := "Ctrl-C"
	if a.terminal != nil && a.terminal.HasKeys() {
		key = "Ctrl-] q"
	}
	return func(rung string) {
		soon.Stop()
		if rung != "" && a.onTerminal() {
			soon = time.AfterFunc(rungTime, func() {
				a.talk("%s: waiting for %s; %s again does it now", vm, rungWait(rung, guestTime), key)
			})
		}
	}
}
