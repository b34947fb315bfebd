package netsetup

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// handOver says what becomes of the program that keeps the NIC's addresses, a DHCP
// client, when the NIC becomes a port and hears nothing any more (F20): steps to
// do before the move and after it, or a refusal.
func handOver(p Plan, f Facts, up Link) (before, after StepList, err error) { //nolint:unparam // none is handed over yet
	for _, a := range f.NIC.Held.addresses() {
		if a.family() == unix.AF_INET && a.dynamic() {
			return nil, nil, fmt.Errorf(
				`plan network %q: uplink %q has its address %s from a DHCP client of the host, which would hear nothing on a port: name a bridge or another NIC, or use mode = "nat": %w`,
				p.Network.Name, up.Name, a.prefix(), ErrRefused)
		}
	}
	return nil, nil, nil
}
