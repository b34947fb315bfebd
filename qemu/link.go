package qemu

import (
	"context"
	"fmt"
)

// SetLink plugs the cable of a NIC, by its place in Config.NICs, or pulls it, as
// the guest sees it. What has a DHCP client asks again when it is back.
func (v *VM) SetLink(ctx context.Context, nic int, up bool) error {
	args := map[string]any{"name": nicID(nic), "up": up}
	if err := v.monitor.Execute(ctx, "set_link", args, nil); err != nil {
		return fmt.Errorf("set link of NIC %d: %w", nic, err)
	}
	return nil
}
