package call

import (
	"fmt"

	"github.com/qnet-vm/qnet/internal/signals"
)

// Progress returns a function that shows on the status line what a VM waits for; ""
// clears the line.
func (c *Call) Progress(vm string) func(what string) {
	return func(what string) {
		if what != "" {
			what = fmt.Sprintf("%s: waiting for %s", vm, what)
		}
		c.Say(func() { c.Line.Set(what) })
	}
}

// During calls f and shows on the status line what the user waits for meanwhile.
func (c *Call) During(what string, f func()) {
	erase := func() { c.Line.Set("") }
	defer signals.OnInterrupt(erase)()
	defer erase()
	c.Line.Set("waiting for " + what)
	f()
}
