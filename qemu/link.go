package qemu

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/qemu/machine"
)

// SetLink plugs in the cable of a NIC, by its place in machine.Config.NICs, or pulls it, as
// the guest sees it. A guest's DHCP client asks again when the cable is back.
func (v *VM) SetLink(ctx context.Context, nic int, up bool) error {
	args := map[string]any{"name": machine.NICID(nic), "up": up}
	if err := v.monitor.Execute(ctx, "set_link", args, nil); err != nil {
		return fmt.Errorf("set link of NIC %d: %w", nic, err)
	}
	return nil
}
