package step

import (
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// ErrLost tells that something is gone that cannot be made again: a tap, whose
// other end is QEMU's.
var ErrLost = errors.New("it cannot be made again")

// Mend does again, in their order, the steps that no longer hold, unless skip says
// not to, and returns those it did. It goes on after an error.
func Mend(seen Seen, steps []Step, skip func(Step) bool) (mended []Step, err error) {
	var errs []error
	var now Kernel = seen
	anew := false // the bridge was made again
	for _, s := range steps {
		holds, err := s.Holds(now)
		if anew && goesWithBridge(s) {
			holds = false
		}
		if err == nil && (holds || skip(s)) {
			continue
		}
		if err == nil {
			err = mend(seen.Kernel, s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("mend %q: %w", firstLine(s.String()), err))
			continue
		}
		mended = append(mended, s)
		now = seen.Kernel // what was seen no longer is so
		_, isBridge := s.(AddBridge)
		anew = anew || isBridge
	}
	return mended, errors.Join(errs...)
}

// goesWithBridge reports whether what the step did went with the bridge, and does
// not say so: a table's hook, and what systemd-resolved was told.
func goesWithBridge(s Step) bool {
	if table, ok := s.(AddTable); ok {
		return table.Table.Family == nft.NetDev
	}
	_, ok := s.(LinkDNS)
	return ok
}

// TapOf names the link of a step that connects a VM's NIC, a tap or a macvtap.
func TapOf(s Step) (name string, ok bool) {
	switch s := s.(type) {
	case AddTap:
		return s.Name, true
	case AddMacvtap:
		return s.Name, true
	}
	return "", false
}

// Lost lists those of the taps in the steps that are gone.
func Lost(seen Seen, steps []Step) []string {
	var names []string
	for _, s := range steps {
		tap, ok := TapOf(s)
		if !ok {
			continue
		}
		if holds, err := s.Holds(seen); err == nil && !holds {
			names = append(names, tap)
		}
	}
	return names
}

func mend(k Kernel, s Step) error {
	if _, ok := TapOf(s); ok {
		return ErrLost
	}
	return s.Do(k)
}
