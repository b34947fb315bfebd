package doctor

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// checkGuards reports what the guards of running guests have dropped. It changes no mode: a
// drop is what a guard is for, and a user who hunts for lost frames finds it here.
func checkGuards(ctx context.Context, h *Host) []Finding {
	infos, err := keeper.List(ctx, h.RunDir)
	if err != nil {
		return one(Unseen, "sudo qnet doctor", "%v", err)
	}
	var list []Finding
	for _, n := range infos {
		for _, d := range n.Dropped {
			list = append(list, Finding{
				Status:   Warn,
				Evidence: fmt.Sprintf("network %s: %d packets dropped: %s", n.Name, d.Packets, d.Of),
				Remedy:   fmt.Sprintf("if its guests shall have what the host's cloud tells there: metadata = true in [network.%s] (docs/profile.md)", n.Name),
			})
		}
		for _, vm := range n.VMs {
			for _, p := range vm.Ports {
				list = append(list, guardOf(vm.Name, p)...)
			}
		}
	}
	if list == nil {
		return one(Pass, "", "no guard of a running guest has dropped a frame")
	}
	return list
}

// guardOf are the findings about one NIC.
func guardOf(vm string, p keeper.Port) []Finding {
	var list []Finding
	if p.Unguarded {
		list = append(list, Finding{Status: Pass, Evidence: fmt.Sprintf(`guest %s, nic[%d]: no guard, as its profile says (guard = "off")`, vm, p.NIC)})
	}
	for _, d := range p.Dropped {
		frames := "frames"
		if d.Packets == 1 {
			frames = "frame"
		}
		list = append(list, Finding{
			Status:   Warn,
			Evidence: fmt.Sprintf("guest %s, nic[%d]: %d %s dropped: %s", vm, p.NIC, d.Packets, frames, d.Of),
			Remedy:   `if the guest is a router, a bridge or a DHCP server, or has other addresses: guard = "off" in its [[nic]] (docs/profile.md)`,
		})
	}
	return list
}
