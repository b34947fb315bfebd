package upkeep

import (
	"context"
	"errors"
	"time"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/hostlease"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// renewTimeout bounds the wait for a DHCP server's answer before anything is
// changed. Servers need milliseconds. Each of the two tries has half of it: the first
// asks the server that gave the lease, the second any server.
const renewTimeout = 4 * time.Second

// TryLease renews the lease of a client that will go deaf, before anything is
// changed: a server that does not answer now would not while VMs run. It calls waits
// before it waits. The error wraps host.ErrRefused.
func TryLease(ctx context.Context, h *kernel.Host, p plan.Plan, waits func(string)) error {
	c := p.Client
	if !c.GoesDeaf() {
		return nil
	}
	nic, ok, err := h.Link(ctx, c.Link)
	if err != nil || !ok {
		return err // the move says so
	}
	waits("the DHCP server, whether it renews the host's lease for qnet")
	for _, broadcast := range []bool{false, true} {
		try, cancel := context.WithTimeout(ctx, renewTimeout/2)
		_, err = hostlease.Renew(try, nic.Index, c.Lease, broadcast)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return host.Refuse(`plan network %q: uplink %q has its address from %s, which hears nothing on a bridge's port, and qnet cannot renew the lease `+
		`in its place: %w: give the NIC a static address, or use mode = "nat"`, p.Network.Name, c.Link, c.Program, err)
}

// lease keeps the DHCP lease of the NIC that became a port.
type lease struct {
	base
	renewer *hostlease.Renewer
}

func newLease(b base) *lease {
	l := &lease{base: b}
	l.renewer = hostlease.New(hostlease.Config{
		Client: b.plan.Client, Port: b.plan.Client.Link, Bridge: b.plan.Bridge,
		Change: b.Network.WhileRunning, Move: l.moveAgain, Log: b.Log,
		Warn: func(text string) { b.Network.Note(keeper.Note{Subject: "uplink " + b.uplink(), Text: text}) },
	})
	return l
}

func (l *lease) String() string { return l.renewer.String() }

// Run renews the lease until the context ends.
func (l *lease) Run(ctx context.Context) error { return l.renewer.Run(ctx) }

// follow handles DHCP clients that can still receive on the port; see
// hostlease.Renewer.Follow. It is called within WhileRunning.
func (l *lease) follow(ctx context.Context) error {
	l.renewer.Port = l.Journal.Plan.Client.Link // which may have another name by now
	return l.renewer.Follow(ctx)
}

// soon makes the lease be renewed at once. It may be called on nil.
func (l *lease) soon() {
	if l != nil {
		l.renewer.Soon()
	}
}

// moveAgain moves to the bridge what the NIC has by now.
func (l *lease) moveAgain(ctx context.Context) error {
	var errs []error
	for _, s := range l.Journal.Plan.Steps {
		if move, ok := s.(step.MoveToBridge); ok {
			errs = append(errs, move.Do(ctx, l.kernel()))
		}
	}
	return errors.Join(errs...)
}
