package managers

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/qnet-vm/qnet/internal/sysbus"
)

// connManServices lists ConnMan's services with their properties (ConnMan's
// doc/manager-api.txt).
const connManServices = "net.connman.Manager.GetServices"

// askConnMan finds out whether ConnMan configures the link. It cannot let go of a link
// at run time, and hears nothing on a bridge's port.
func askConnMan(ctx context.Context, l link) (Client, error) {
	c := Client{Program: ConnMan}
	peer, err := sysbus.Dial(ctx, busNames[ConnMan])
	if err != nil {
		return c, err
	}
	defer peer.Close()
	var services []struct {
		Path       dbus.ObjectPath
		Properties map[string]dbus.Variant
	}
	if err := peer.Call(ctx, "/", connManServices).Store(&services); err != nil {
		return c, fmt.Errorf("list its services: %w", err)
	}
	for _, s := range services {
		ethernet, _ := s.Properties["Ethernet"].Value().(map[string]dbus.Variant)
		if name, _ := ethernet["Interface"].Value().(string); name == l.name {
			c.Refusal = "is configured by ConnMan, which cannot be told at run time to let go of it: add it to NetworkInterfaceBlacklist " +
				`in /etc/connman/main.conf and configure it by another program, or use mode = "nat"`
			return c, nil
		}
	}
	return c, errNone
}
