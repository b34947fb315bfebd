package qmp

import "context"

// RunContext is Run with a context.
func (m *Monitor) RunContext(ctx context.Context, command []byte) ([]byte, error) {
	return m.runLine(ctx, command)
}

// Done is closed when the connection has ended.
func (m *Monitor) Done() <-chan struct{} { return m.ended }

// DroppedEvents returns how many events were lost because a subscriber fell
// behind or because they were too long.
func (m *Monitor) DroppedEvents() uint64 { return m.dropped.Load() }
