package supervisor

import (
	"context"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/qemu/standstill"
)

// phases are what a guest that stands still is shown as.
var phases = map[standstill.Kind]control.Phase{
	standstill.Runs: control.Running, standstill.Paused: control.Paused, standstill.Suspended: control.Suspended, standstill.Panicked: control.Panicked,
}

// watchGuest shows in the VM's state whether its guest runs, and tells what happens to it,
// until QEMU has ended.
func (s *session) watchGuest(ctx context.Context) { s.vm.Watch(ctx, s.heard) }

// heard takes an incident of the guest.
func (s *session) heard(i standstill.Incident) {
	s.setHalt(i.Halt)
	if i.Text == "" {
		return
	}
	n := keeper.Note{Subject: s.subject(), Text: s.subject() + " " + i.Text, Remedy: i.Remedy}
	if i.Minor {
		s.record(n.String())
		return
	}
	s.note(n)
}

// setHalt keeps why the guest stands still. A VM that is being stopped stays so.
func (s *session) setHalt(h standstill.Halt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Launched() {
		s.state.State, s.state.Reason, s.state.Disks = phases[h.Kind], h.Short(), h.Disks
	}
}
