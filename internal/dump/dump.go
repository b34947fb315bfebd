// Package dump makes lists by netlink(7) whole. It only reads, and may be used
// concurrently.
package dump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// ErrInterrupted is netlink.ErrDumpInterrupted, for lists of another package.
var ErrInterrupted = netlink.ErrDumpInterrupted

// tries bounds the dumps of a list that changes all the time.
const tries = 21

// Whole calls list, such as a function of package netlink, again if something changed during the
// dump (NLM_F_DUMP_INTR, netlink(7)): then the list may lack entries. It returns an error
// that wraps ErrInterrupted if that happens 21 times in a row.
func Whole[T any](list func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || n == tries {
			return v, err
		}
	}
}
