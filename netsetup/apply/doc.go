// Package apply does lists of steps: in order (Do), backwards (Undo), those again that
// no longer hold (Mend), and over from a dead process (Adopt). Rollback, teardown and
// the clean-up after a crash are all Undo.
//
// It names no step. What it must know of one, a step says by the small interfaces of
// package step.
//
// Only the keeper and its watchdog call it, for one network at a time.
package apply
