package netsetup

import (
	"fmt"
	"time"
)

// Ask asks on a link, by its name, and returns who answered in time: at once when
// all those wanted have.
func (h *Host) Ask(link string, want []Answer, within time.Duration) ([]Answer, error) {
	l, ok, err := h.Link(link)
	if err == nil && !ok {
		err = fmt.Errorf("there is no such link")
	}
	if err != nil {
		return nil, fmt.Errorf("ask on %q: %w", link, err)
	}
	return ask(l, want, within)
}
