package resolved

import (
	"context"

	"github.com/qnet-vm/qnet/internal/sysbus"
)

// Runs reports whether systemd-resolved runs and answers.
func Runs(ctx context.Context) bool {
	runs, err := with(ctx, func(*sysbus.Peer) error { return nil })
	return runs && err == nil
}
