package guest

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// Member is a synthetic VM on a network. The caller closes it.
type Member struct {
	Guests []*Guest // one for each NIC
	reg    *keeper.Registration
}

// Place says where Join puts a synthetic VM.
type Place struct {
	Keeper   keeper.Options
	Network  keeper.Network
	VM       string // a name that no running VM has
	Identity string // the MACs derive from it and the salt of the host; "" is VM
	NICs     int    // at least 1

	// Trace makes the keeper mark the packets of the VM, and the packets that come from
	// these addresses, for trace.Start. Nil marks none.
	Trace []netip.Addr
}

// Join makes the VM and starts to play its NICs. Its errors are those of keeper.Join.
func Join(ctx context.Context, p Place) (*Member, error) {
	salt, err := journal.LoadSalt(p.Keeper.StateDir)
	if err != nil {
		return nil, err
	}
	var ports []keeper.PortRequest
	for i := range p.NICs {
		ports = append(ports, keeper.PortRequest{NIC: i, MAC: macgen.Derive(salt, "probe/"+cmp.Or(p.Identity, p.VM), i), Trace: p.Trace})
	}
	reg, err := keeper.Join(ctx, p.Keeper, p.Network, p.VM, ports)
	if err != nil {
		return nil, err
	}
	m := &Member{reg: reg}
	for _, port := range reg.Ports() {
		tap, err := nonBlocking(port.File)
		if err != nil {
			return nil, errors.Join(err, m.Close(ctx))
		}
		m.Guests = append(m.Guests, newGuest(port.MAC, port.Tap, tap))
	}
	return m, nil
}

// Info describes the network at the time of Join.
func (m *Member) Info() keeper.Info { return m.reg.Info() }

// Ports are the ports of the VM on the network, one for each NIC.
func (m *Member) Ports() []keeper.Port { return m.reg.Ports() }

// Close takes the VM off the network and returns when the keeper has undone its part.
func (m *Member) Close(ctx context.Context) error {
	for _, g := range m.Guests {
		g.close()
	}
	return errors.Join(m.reg.Leave(ctx), m.reg.Close())
}
