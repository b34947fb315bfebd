package supervisor

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

func (s *session) join(ctx context.Context) error {
	for _, n := range nics.NetworksOf(s.profile) {
		if err := s.joinNetwork(ctx, n); err != nil {
			return s.forwards.Explain(err)
		}
	}
	return nil
}

// portsChanged takes over what a keeper has seen of the guest on its NICs.
func (s *session) portsChanged(ports []keeper.Port) {
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
			requests = append(requests, keeper.PortRequest{NIC: i, MAC: hardware.MAC(s.profile, i, s.salt), Address: nic.Address, Address6: nic.Address6, Unguarded: nic.Unguarded, Reach: nic.Reach, Files: s.nics[i].Taps, Forwards: s.forwards.Of(i)})
		}
	}
	s.Progress(fmt.Sprintf("network %q", n.Name))
	life := context.WithoutCancel(ctx) // of the VM, which may outlive the start by far
	reg, err := keeper.Join(ctx, keeper.Options{
		RunDir: s.RunDir, StateDir: s.StateDir, Exe: s.Exe, Log: s.Verbose, Note: s.note, Waits: s.startProgress,
		Changed: s.portsChanged, Replug: func(nics []int) { s.replug(life, nics) }, GiveUp: s.giveUp, AsRoot: asuser.AsRoot,
		AssumeYes: s.AssumeYes, Peer: RemotePeer(), Stewards: &s.stewards,
	}, nics.NetworkOf(n), s.profile.Name, requests)
	if err != nil {
		return err
	}
	s.regs = append(s.regs, reg)
	s.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, undoTimeout)
		defer cancel()
		s.Progress(fmt.Sprintf("network %q to be undone", n.Name))
		s.stewards.Start() //nolint:errcheck // the keeper, which waits for its steward's end, sees that there is none
		return reg.Leave(ctx)
	})
	return nil
}

// startProgress tells what a network's start waits for. A keeper that starts while the VM
// runs, in place of one that died, waits silently: the terminal is the guest's.
func (s *session) startProgress(what string) {
	if s.State().State == control.Starting {
		s.Progress(what)
	}
}

// awaitForwarding waits until a bridge with STP forwards the frames of the VM's taps, so
// that the guest does not ask for an address in vain.
func (s *session) awaitForwarding(ctx context.Context) error {
	for _, r := range s.regs {
		if !r.Info().STP {
			continue
		}
		for _, p := range r.Ports() {
			s.Progress(fmt.Sprintf("bridge %s to let frames of the VM pass (STP)", r.Info().Bridge))
			err := host.AwaitForwarding(ctx, p.Tap, r.Info().Bridge)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				s.note(keeper.Note{Subject: s.subject(), Text: err.Error()})
			}
		}
	}
	return nil
}

// describeNICs puts the NICs and their connections into the state.
func (s *session) describeNICs() {
	ports, infos := s.ports()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range s.profile.NICs {
		nic := control.NIC{Index: i, Mode: n.Mode, Network: n.Network, Unguarded: n.Unguarded, MAC: control.MAC(hardware.MAC(s.profile, i, s.salt))}
		if port, ok := ports[i]; ok {
			nic.Tap, nic.Bridge, nic.Address, nic.Address6 = port.Tap, infos[i].Bridge, port.Address, port.Address6
		}
		s.state.NICs = append(s.state.NICs, nic)
	}
}

// NIC describes a NIC, for forwards.Host.
func (s *session) NIC(i int) control.NIC {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.NICs[i]
}

// Registration returns that of a NIC's network, for forwards.Host.
func (s *session) Registration(i int) *keeper.Registration {
	for _, r := range s.regs {
		if r.Info().Name == s.profile.NICs[i].Network {
			return r
		}
	}
	return nil
}
