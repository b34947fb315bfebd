// Package apply does lists of steps: Do does them in order and undoes all of them when one
// fails, Undo takes them back last first, Mend does those again that no longer hold, Drift
// tells what other programs changed, and Adopt takes over those of a dead process. Rollback,
// teardown and the clean-up after a crash are all Undo.
//
// The package decides nothing and names no step: what it must know of one, the step says by
// the small interfaces of package step. It changes the host only by the steps, and keeps
// nothing between two calls.
//
// When the context ends, the step that waits fails, and Do undoes all. Nothing interrupts Undo:
// a network must not stay half undone, and each call to the kernel is short.
//
// The keeper, its watchdog and qnet gc call the package, for one network at a time and under
// the plan lock where they plan, do or undo. Undo alone uses a second goroutine, which has
// ended when Undo returns.
package apply
