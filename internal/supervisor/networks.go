package supervisor

import (
	"context"
	"fmt"
	"net"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

func (s *session) join(ctx context.Context) error {
	for _, n := range NetworksOf(s.profile) {
		if err := s.joinNetwork(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// MAC is the address of a profile's NIC: the one it gives or the derived one.
func MAC(p *profiles.Profile, i int, salt []byte) net.HardwareAddr {
	if p.NICs[i].MAC != nil {
		return p.NICs[i].MAC
	}
	return macgen.Derive(salt, p.Path+"/"+p.Name, i)
}

// NetworksOf lists the networks of a profile's NICs, each once, in their order.
func NetworksOf(p *profiles.Profile) []profiles.Network {
	var networks []profiles.Network
	seen := map[string]bool{}
	for _, n := range p.NICs {
		if n.Network != "" && !seen[n.Network] {
			seen[n.Network] = true
			networks = append(networks, p.Networks[n.Network])
		}
	}
	return networks
}

// NetworkOf is what the keeper is told of a profile's network.
func NetworkOf(n profiles.Network) keeper.Network {
	return keeper.Network{Name: n.Name, Mode: n.Mode, Subnet: n.Subnet, Uplink: n.Uplink, Macvtap: n.Macvtap, MTU: n.MTU, PXE: n.PXE}
}

// portsChanged takes over what a keeper tells of the guest's NICs.
func (s *session) portsChanged(ports []keeper.PortInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range ports {
		for i := range s.state.NICs {
			if s.state.NICs[i].Index == p.NIC {
				s.state.NICs[i].Seen = p.Seen
			}
		}
	}
}

func (s *session) joinNetwork(ctx context.Context, n profiles.Network) error {
	var requests []keeper.PortRequest
	for i, nic := range s.profile.NICs {
		if nic.Network == n.Name {
			requests = append(requests, keeper.PortRequest{NIC: i, MAC: MAC(s.profile, i, s.salt), Address: nic.Address, Files: s.taps[i]})
		}
	}
	s.Waits(fmt.Sprintf("network %q", n.Name))
	reg, err := keeper.Join(ctx, keeper.Options{
		RunDir: s.RunDir, StateDir: s.StateDir, Exe: s.Exe, Log: s.Verbose, Note: s.note, Waits: s.startWaits,
		Changed: s.portsChanged, Replug: s.replug, GiveUp: s.giveUp, AsRoot: asuser.AsRoot,
		AssumeYes: s.AssumeYes, Peer: RemotePeer(),
	}, NetworkOf(n), s.profile.Name, requests)
	if err != nil {
		return err
	}
	s.regs = append(s.regs, reg)
	s.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		s.Waits(fmt.Sprintf("network %q to be undone", n.Name))
		return reg.Leave(ctx)
	})
	return nil
}

// startWaits tells what a network's start waits for. A keeper that starts while the
// VM runs, for one that died, tells nobody: the guest's console has the terminal.
func (s *session) startWaits(what string) {
	s.mu.Lock()
	starting := s.state.State == stateStarting
	s.mu.Unlock()
	if starting {
		s.Waits(what)
	}
}

// awaitForwarding keeps the guest from asking for an address while a bridge with
// STP would not carry its question.
func (s *session) awaitForwarding(ctx context.Context) error {
	for _, r := range s.regs {
		if !r.Info().STP {
			continue
		}
		for _, p := range r.Ports() {
			s.Waits(fmt.Sprintf("bridge %s to let frames of the VM pass (STP)", r.Info().Bridge))
			err := host.AwaitForwarding(ctx, p.Tap, r.Info().Bridge)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				s.note(err.Error())
			}
		}
	}
	return nil
}

// describeNICs puts the NICs and their ports into the state.
func (s *session) describeNICs() {
	ports, infos := s.ports()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range s.profile.NICs {
		entry := NIC{Index: i, Mode: string(n.Mode), Network: n.Network, MAC: MAC(s.profile, i, s.salt).String()}
		if port, ok := ports[i]; ok {
			entry.Tap, entry.Bridge = port.Tap, infos[i].Bridge
			if port.Address.IsValid() {
				entry.Address = port.Address.String()
			}
		}
		s.state.NICs = append(s.state.NICs, entry)
	}
}
