package kernel

import (
	"context"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Ask asks on a link, by its name, for the wanted neighbors, and returns those that answered
// in time (host.Ask). It needs CAP_NET_RAW.
func (h *Host) Ask(ctx context.Context, link string, want []host.Neighbor, within time.Duration) ([]host.Neighbor, error) {
	l, ok, err := h.Link(ctx, link)
	if err == nil && !ok {
		err = fmt.Errorf("there is no such link")
	}
	if err != nil {
		return nil, fmt.Errorf("ask on %q: %w", link, err)
	}
	return host.Ask(ctx, l, want, within)
}
