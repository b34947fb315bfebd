package firstboot

import (
	"fmt"

	"github.com/qnet-vm/qnet/profiles"
)

// networkConfig is cloud-init's network configuration, version 2.
type networkConfig struct {
	Version   int                 `json:"version"`
	Ethernets map[string]ethernet `json:"ethernets"`
}

type ethernet struct {
	Match     map[string]string `json:"match"`
	Name      string            `json:"set-name"`
	DHCP4     bool              `json:"dhcp4"`
	DHCP6     bool              `json:"dhcp6,omitempty"`
	Overrides map[string]any    `json:"dhcp4-overrides,omitempty"`
	Optional  bool              `json:"optional,omitempty"`
}

// LinkName is what the link of the i-th NIC is called in a guest.
func LinkName(i int) string { return fmt.Sprintf("eth%d", i) }

// metric of the first NIC's routes. Each further one has 100 more, so that the first NIC
// with a default route is the guest's way out.
const metric = 100

// network says how each NIC gets its address: as qnet's DHCP server, QEMU or the LAN's
// server leases it. A NIC of a private network has no server to wait for, and one that is
// not connected is left alone. The NIC's name is set because several of cloud-init's
// writers know a NIC by its name only.
func (s Settings) network() networkConfig {
	c := networkConfig{2, map[string]ethernet{}}
	for i, n := range s.NICs {
		if n.Mode == profiles.None {
			continue
		}
		name := LinkName(i)
		e := ethernet{Match: map[string]string{"macaddress": n.MAC}, Name: name, DHCP4: n.Mode != profiles.Private, DHCP6: n.IPv6}
		if e.DHCP4 {
			e.Overrides = map[string]any{"route-metric": metric * (i + 1)}
		} else {
			e.Optional = true
		}
		c.Ethernets[name] = e
	}
	return c
}
