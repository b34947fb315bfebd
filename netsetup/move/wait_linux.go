package move

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/neigh"
)

// carrierTimeout bounds awaitCarrier. The kernel handles carriers of all its network
// namespaces one after the other.
const carrierTimeout = 5 * time.Second

// awaitCarrier waits until the bridge sends, and if ipv6 is set, until IPv6 uses it. The
// kernel starts the bridge's queue a moment after the port joined, when it has seen the
// port's carrier. Until then the host sends by the NIC.
func (x *crossing) awaitCarrier(ctx context.Context, ipv6 bool) {
	if !x.from.Carrier {
		return // then the bridge gets none
	}
	for end := time.Now().Add(carrierTimeout); time.Now().Before(end) && ctx.Err() == nil; {
		l, err := netlink.LinkByIndex(x.to.Index)
		if err != nil || l.Attrs().OperState == netlink.OperUp && (!ipv6 || x.conn.Ready(x.to.Index)) {
			return
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // the kernel's event may come later than that
	}
}

// steadyTimeout is how long steady looks: dhcpcd needs some 5 ms.
const steadyTimeout = 500 * time.Millisecond

// steady gives the NIC again what another program takes away in the next moment. When a port
// leaves a bridge, the kernel sends RTM_DELLINK of family AF_BRIDGE. dhcpcd takes that for the
// end of the link, removes its address, and would have it again after 5 s.
func (x *crossing) steady(ctx context.Context) error {
	for end := time.Now().Add(steadyTimeout); time.Now().Before(end) && ctx.Err() == nil; {
		now, err := host.ReadHoldings(x.conn, x.to)
		if err != nil {
			return err
		}
		if now.HasAll(x.held) {
			time.Sleep(time.Millisecond) //nolint:forbidigo // the kernel's event would come no earlier
			continue
		}
		x.before = now
		if err := host.Explain(x.conn.Send(x.addresses())); err != nil {
			return err
		}
		if err := x.moveRoutes(nil); err != nil {
			return err
		}
	}
	return nil
}

// solicit asks the routers of the other link to advertise themselves (RFC 4861, 6.3.7).
// Without that they do so later.
func (x *crossing) solicit() {
	from, ok := x.solicitor()
	if !ok {
		return
	}
	neigh.Solicit(x.to.Index, neigh.Place{MAC: x.to.MAC, Addr: from}) //nolint:errcheck // as said
}
