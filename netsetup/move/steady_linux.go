package move

import (
	"context"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// steadyTime is how long is looked: dhcpcd needs some 5 ms.
const steadyTime = 500 * time.Millisecond

// steady gives the NIC again what another program takes away in the next moment.
// dhcpcd takes the kernel's word that a bridge's port is gone (RTM_DELLINK of the
// family AF_BRIDGE) for the end of the link, and would have its address again after
// 5 s.
func (x *crossing) steady(ctx context.Context) error {
	for end := time.Now().Add(steadyTime); time.Now().Before(end) && ctx.Err() == nil; {
		now, err := host.ReadHoldings(x.Conn, x.to)
		if err != nil {
			return err
		}
		if now.HasAll(x.held) {
			time.Sleep(time.Millisecond) //nolint:forbidigo // the event would be no earlier
			continue
		}
		x.before = now
		if err := host.Explain(x.Send(x.addresses())); err != nil {
			return err
		}
		if err := x.moveRoutes(nil); err != nil {
			return err
		}
	}
	return nil
}
