package saved

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/qnet-vm/qnet/internal/agent"
)

// discard is the port of RFC 863: what comes there is thrown away.
const discard = 9

// AskForSigns sends a packet to each address that is reserved for a guest: the host's kernel
// asks for it by ARP, and by the guest's answer the keeper sees that it is still in use. A
// guest without a DHCP client that follows its cables shows nothing of its own.
func AskForSigns(ctx context.Context, addresses []netip.Addr) {
	var d net.Dialer
	for _, a := range addresses {
		if !a.IsValid() {
			continue
		}
		c, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(a, discard).String())
		if err != nil {
			continue // the network was just undone
		}
		c.Write([]byte{0}) //nolint:errcheck // as above
		c.Close()
	}
}

// clockTime is how long the guest's agent may take to set the clock.
const clockTime = 10 * time.Second

// SetClock has the guest's agent, if it has one, set the clock: it stood still with the guest.
// An error may tell that the guest has none after all.
func SetClock(ctx context.Context, a *agent.Conn) error {
	if a == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, clockTime)
	defer cancel()
	now := time.Now()
	if err := a.Run(ctx, fmt.Sprintf("date -u -s @%d.%03d", now.Unix(), now.Nanosecond()/1e6)); err != nil {
		return fmt.Errorf("set the guest's clock: %w", err)
	}
	return nil
}
