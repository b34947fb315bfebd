package step

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Step is one change to the host. A step may also implement the small interfaces
// below; each function that needs one asks for it and names no step.
type Step interface {
	// Do makes the change. It refuses an object of the name that is not ours.
	Do(ctx context.Context, k Kernel) error
	// Undo takes the change back. An object that is gone is no error. An object without
	// our mark, or with another value than ours, is left alone.
	Undo(ctx context.Context, k Kernel) error
	// Holds reports whether the host still is as Do left it.
	Holds(ctx context.Context, k Kernel) (bool, error)
	// String is the change as ip(8), nft(8) and sysctl(8) commands, one a line.
	String() string
	// UndoString is the same for Undo, "" where another step's undo does it.
	UndoString() string
}

// LinkMaker is a step that makes a link. apply.Undo deletes all such links in one request.
type LinkMaker interface {
	// Made returns the name of the link if it is there and bears our mark.
	Made(ctx context.Context, k Kernel) (string, error)
}

// PortMaker is a step that makes a port: the host's end of a NIC of a VM.
type PortMaker interface {
	// Port names the link, a tap or a macvtap.
	Port() string
	// Open reports whether a process has the link's file open; told is false where the
	// kernel does not tell.
	Open(ctx context.Context, k Kernel) (open, told bool, err error)
}

// Waiter is a step whose Do may wait for longer than a moment.
type Waiter interface {
	// WaitsFor names what Do waits for: "firewalld".
	WaitsFor() string
}

// Optional is a step that a network stands without, if with fewer promises: another
// program keeps what it changes.
type Optional interface{ IsOptional() }

// Accept is an optional step that inserts an accept into another program's rules.
type Accept interface{ IsAccept() }

// Concurrent is a step that apply.Undo may undo while the kernel deletes links.
type Concurrent interface{ IsConcurrent() }

// BridgeBound is a step whose effect may disappear with the bridge although Holds
// cannot tell.
type BridgeBound interface{ GoesWithBridge() bool }

// Drifter is a step that tells what other programs did to its effect.
type Drifter interface {
	// Drift returns texts for the user; all are the steps of the network.
	Drift(ctx context.Context, k Kernel, all []Step) []string
}

// Adopter is a step whose effect belongs to the process that did it.
type Adopter interface {
	// Adopt takes over the effect of a dead process.
	Adopt(ctx context.Context, k Kernel) error
}

// All returns the steps of one type, in their order.
func All[S Step](steps []Step) []S {
	var found []S
	for _, s := range steps {
		if s, ok := s.(S); ok {
			found = append(found, s)
		}
	}
	return found
}

// Find returns the first step of one type.
func Find[S Step](steps []Step) (s S, ok bool) {
	for _, t := range steps {
		if s, ok = t.(S); ok {
			return s, true
		}
	}
	return s, false
}

// PortOf names the link of a step that connects a VM's NIC.
func PortOf(s Step) (name string, ok bool) {
	if p, ok := s.(PortMaker); ok {
		return p.Port(), true
	}
	return "", false
}

// WaitsFor names what a step waits for where that may take longer than a moment,
// and returns "" for the others.
func WaitsFor(s Step) string {
	if w, ok := s.(Waiter); ok {
		return w.WaitsFor()
	}
	return ""
}

// IsAccept reports whether the step is an Accept.
func IsAccept(s Step) bool {
	_, ok := s.(Accept)
	return ok
}

// takenElsewhere is ErrNotOurs of a link that does bear the mark.
type takenElsewhere struct{ kind string }

// Error says who has it.
func (e *takenElsewhere) Error() string {
	return fmt.Sprintf("a %s of that name and mark: VMs of another run directory use it, or left it (qnet --run-dir DIR gc)", e.kind)
}

// Is makes it ErrNotOurs.
func (e *takenElsewhere) Is(target error) bool { return target == host.ErrNotOurs }

// taken is the error about a link that has the name that one of ours would have.
func taken(l host.Link, alias string) error {
	if l.Alias == alias {
		return &takenElsewhere{l.Kind}
	}
	return fmt.Errorf("a %s of that name, alias %q: %w", l.Kind, l.Alias, host.ErrNotOurs)
}

func delMade(ctx context.Context, k Kernel, s LinkMaker) error {
	name, err := s.Made(ctx, k)
	if err != nil || name == "" {
		return err
	}
	return k.DelLinks(ctx, []string{name})
}

func marked(ctx context.Context, k Kernel, name, alias string) (bool, error) {
	l, ok, err := k.Link(ctx, name)
	return ok && l.Alias == alias, err
}
