// Package dump lists what the kernel has by netlink, whole.
package dump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// tries bounds how often a list is asked for that changes all the time.
const tries = 21

// Whole calls list, one of package netlink's, again where something changed during
// the dump (NLM_F_DUMP_INTR): the partial answer is of no use. It returns
// netlink.ErrDumpInterrupted where that goes on.
func Whole[T any](list func() (T, error)) (T, error) {
	for n := 1; ; n++ {
		v, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || n == tries {
			return v, err
		}
	}
}
