package step

import "context"

// Step is one change to the host. A step may also implement the small interfaces of this
// package: apply asks each step for them, and names no type.
type Step interface {
	// Do makes the change. It refuses an object of the name that is not ours.
	Do(ctx context.Context, k Kernel) error
	// Undo takes the change back. It accepts an object that is gone, and leaves alone one
	// without our mark, or with another value than ours.
	Undo(ctx context.Context, k Kernel) error
	// Holds reports whether the host still is as Do left it.
	Holds(ctx context.Context, k Kernel) (bool, error)
	// String is the change as commands of ip(8), nft(8), sysctl(8) and the like.
	String() string
	// UndoString is the same for Undo, "" where another step's Undo does it.
	UndoString() string
}

// Waiter is a step whose Do may wait for longer than a moment.
type Waiter interface {
	// WaitsFor names what Do waits for: "firewalld".
	WaitsFor() string
}

// WaitsFor names what the step waits for, "" where it does not wait.
func WaitsFor(s Step) string {
	if w, ok := s.(Waiter); ok {
		return w.WaitsFor()
	}
	return ""
}

// Optional is a step that a network can do without: if it fails, another program drops
// some of the network's packets.
type Optional interface{ IsOptional() }

// Accept is an Optional step that inserts an accept into a chain of another program.
type Accept interface{ IsAccept() }

// IsAccept reports whether the step is an Accept.
func IsAccept(s Step) bool {
	_, ok := s.(Accept)
	return ok
}

// Concurrent is a step that apply.Undo may undo while the kernel deletes the links.
type Concurrent interface{ IsConcurrent() }

// BridgeBound is a step whose effect disappears with the bridge although Holds may still
// report true.
type BridgeBound interface{ GoesWithBridge() bool }

// Drifter is a step that can tell what other programs did to its effect.
type Drifter interface {
	// Drift returns texts for the user. all are the steps of the network.
	Drift(ctx context.Context, k Kernel, all []Step) []string
}

// Adopter is a step whose effect belongs to the process that did it.
type Adopter interface {
	// Adopt makes the effect of a dead process this one's.
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

// Find returns the first step of one type, false where there is none.
func Find[S Step](steps []Step) (s S, ok bool) {
	for _, t := range steps {
		if s, ok = t.(S); ok {
			return s, true
		}
	}
	return s, false
}
