package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// forwarding is BR_STATE_FORWARDING (linux/if_bridge.h).
const forwarding = "3"

// AwaitForwarding waits until the port of a bridge forwards frames. Where the bridge runs
// STP, that takes twice its forward delay, 30 s by default, after the port joined (F24). It
// returns an error when ctx ends, and 5 s after the port should forward.
func AwaitForwarding(ctx context.Context, port, bridge string) error {
	limit := 2*forwardDelay(bridge) + 5*time.Second
	for begin := time.Now(); ; {
		state, err := os.ReadFile(filepath.Join("/sys/class/net", port, "brport/state"))
		if err != nil {
			return fmt.Errorf("read state of port %q: %w", port, err)
		}
		if strings.TrimSpace(string(state)) == forwarding {
			return nil
		}
		if time.Since(begin) > limit {
			return fmt.Errorf("port %q of bridge %s does not forward frames %s after it joined; look with: bridge link show dev %s", port, bridge, limit, port)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// forwardDelay returns the bridge's, 15 s where it cannot be read. The file has 1/100 s.
func forwardDelay(bridge string) time.Duration {
	b, err := os.ReadFile(filepath.Join("/sys/class/net", bridge, "bridge/forward_delay"))
	n, numErr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || numErr != nil {
		return 15 * time.Second
	}
	return time.Duration(n) * 10 * time.Millisecond
}
