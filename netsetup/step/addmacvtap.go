package step

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/qnet-vm/qnet/netsetup/host"
)

var _ = Register[AddMacvtap]()

// ErrNoTapDevice tells that the kernel's device of a macvtap link cannot be found.
var ErrNoTapDevice = errors.New(`the kernel's device of a macvtap link is not there (is /dev a container's own?): leave macvtap out, or use mode = "nat"`)

// AddMacvtap creates a macvtap link in bridge mode on the uplink, with the uplink's MTU.
// Unlike a tap, the link stays when its device is closed.
type AddMacvtap struct {
	Name   string           `json:"name"`
	Uplink string           `json:"uplink"`
	MAC    net.HardwareAddr `json:"mac"` // the guest's: frames to other MACs do not pass
	Alias  string           `json:"alias"`
}

// Do creates the link and opens its device; the Kernel keeps the file. The kernel refuses
// macvtap on a port of a bridge (EBUSY).
func (s AddMacvtap) Do(ctx context.Context, k Kernel) error {
	if err := free(ctx, k, "add macvtap", s.Name, s.Alias); err != nil {
		return err
	}
	up, ok, err := k.Link(ctx, s.Uplink)
	if err != nil {
		return err
	}
	if ok && up.Master != 0 {
		return host.Refuse("add macvtap %q: %s is a port of a bridge (EBUSY): release it with: ip link set %s nomaster; or leave macvtap out",
			s.Name, s.Uplink, s.Uplink)
	}
	return k.AddMacvtap(ctx, s)
}

// Undo deletes the link.
func (s AddMacvtap) Undo(ctx context.Context, k Kernel) error { return delMade(ctx, k, s) }

// Made finds the link by our mark, or by the guest's MAC where a kill came between its
// creation and its mark.
func (s AddMacvtap) Made(ctx context.Context, k Kernel) (string, error) {
	l, ok, err := k.Link(ctx, s.Name)
	if err != nil || !ok {
		return "", err
	}
	unmarked := l.Alias == "" && l.Kind == "macvtap" && l.MAC.String() == s.MAC.String()
	if l.Alias != s.Alias && !unmarked {
		return "", nil
	}
	return s.Name, nil
}

// Holds reports whether the link is there and bears our mark.
func (s AddMacvtap) Holds(ctx context.Context, k Kernel) (bool, error) {
	return marked(ctx, k, s.Name, s.Alias)
}

func (s AddMacvtap) String() string {
	return fmt.Sprintf("ip link add link %s name %s address %s type macvtap mode bridge\nip link set %s alias %s\nip link set %s allmulticast on",
		s.Uplink, s.Name, s.MAC, s.Name, s.Alias, s.Name)
}

// UndoString is the command that deletes the link.
func (s AddMacvtap) UndoString() string { return "ip link del " + s.Name }

// Port names the macvtap link.
func (s AddMacvtap) Port() string { return s.Name }

// Open reports whether the link is there. The kernel does not tell whether a process has
// its device open.
func (s AddMacvtap) Open(ctx context.Context, k Kernel) (open, told bool, err error) {
	open, err = s.Holds(ctx, k)
	return open, false, err
}
