package step

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Links are the host's links, by name.
type Links interface {
	Link(ctx context.Context, name string) (host.Link, bool, error) // false, and no error, where there is none
	ListLinks(ctx context.Context) ([]host.Link, error)
	// DelLinks deletes all of them in one request. Links that are gone are no error.
	DelLinks(ctx context.Context, names []string) error
	// SetMaster makes the link a port of the bridge. With bridge "" it releases the link.
	SetMaster(ctx context.Context, link, bridge string) error
	SetUp(ctx context.Context, link string, up bool) error
	Rename(ctx context.Context, link, name string) error    // gives it another name
	SetMTU(ctx context.Context, link string, mtu int) error // in bytes
}

// Devices creates links, each with its mark.
type Devices interface {
	AddBridge(ctx context.Context, b AddBridge) error
	AddTap(ctx context.Context, name, alias string, mtu int) error
	AddMacvtap(ctx context.Context, m AddMacvtap) error
}

// BridgePorts are ports of bridges, by the link's name.
type BridgePorts interface {
	IsolatePort(ctx context.Context, link string) error          // the bridge passes nothing between isolated ports
	PortIsolated(ctx context.Context, link string) (bool, error) // false without such a link
}

// LinkMaker is a step that makes a link. apply.Undo deletes all such links in one request.
type LinkMaker interface {
	// Made returns the name of the link if it is there and bears our mark, else "".
	Made(ctx context.Context, k Kernel) (string, error)
}

// PortMaker is a step that makes a port: the host's end of a VM's NIC.
type PortMaker interface {
	// Port names the link, a tap or a macvtap.
	Port() string
	// Open reports whether a process has the link's file open. told is false where the
	// kernel does not tell.
	Open(ctx context.Context, k Kernel) (open, told bool, err error)
}

// PortOf returns the name of the port that the step makes, false where it makes none.
func PortOf(s Step) (name string, ok bool) {
	if p, ok := s.(PortMaker); ok {
		return p.Port(), true
	}
	return "", false
}

// delMade deletes the link that the step made, if it is still there.
func delMade(ctx context.Context, k Kernel, s LinkMaker) error {
	name, err := s.Made(ctx, k)
	if err != nil || name == "" {
		return err
	}
	return k.DelLinks(ctx, []string{name})
}

// marked reports whether the link is there and bears the mark.
func marked(ctx context.Context, k Kernel, name, alias string) (bool, error) {
	l, ok, err := k.Link(ctx, name)
	return ok && l.Alias == alias, err
}

// free returns an error if a link has the name that a step is about to use. verb is the
// start of its text: "add tap".
func free(ctx context.Context, k Kernel, verb, name, alias string) error {
	l, ok, err := k.Link(ctx, name)
	if err != nil || !ok {
		return err
	}
	if l.Name != name {
		return fmt.Errorf("%s %q: %s has that as an alternative name (ip link property del dev %s altname %s): %w", verb, name, l.Name, l.Name, name, host.ErrNotOurs)
	}
	if l.Alias == alias {
		return fmt.Errorf("%s %q: %w", verb, name, &takenElsewhere{l.Kind})
	}
	return fmt.Errorf("%s %q: a %s of that name, alias %q: %w", verb, name, l.Kind, l.Alias, host.ErrNotOurs)
}

// takenElsewhere is the host.ErrNotOurs of a link that bears our mark: the network of
// another run directory has it.
type takenElsewhere struct{ kind string }

func (e *takenElsewhere) Error() string {
	return fmt.Sprintf("a %s of that name and mark: VMs of another run directory use it, or left it (qnet --run-dir DIR gc)", e.kind)
}

// Is makes it host.ErrNotOurs.
func (e *takenElsewhere) Is(target error) bool { return target == host.ErrNotOurs }
