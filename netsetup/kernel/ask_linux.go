package kernel

import (
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Ask asks on a link, by its name, and returns who answered in time: at once when
// all those wanted have.
func (h *Host) Ask(link string, want []host.Neighbor, within time.Duration) ([]host.Neighbor, error) {
	l, ok, err := h.Link(link)
	if err == nil && !ok {
		err = fmt.Errorf("there is no such link")
	}
	if err != nil {
		return nil, fmt.Errorf("ask on %q: %w", link, err)
	}
	return host.Ask(l, want, within)
}
