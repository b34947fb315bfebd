package step

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/netsetup/host"
)

var _ = Register[AddTap]()

// AddTap creates a tap that goes away with the last file descriptor on it.
type AddTap struct {
	Name  string `json:"name"`
	Alias string `json:"alias"`
	MTU   int    `json:"mtu"` // bytes
}

// Do creates the tap; the Kernel keeps its file.
func (s AddTap) Do(ctx context.Context, k Kernel) error {
	if err := free(ctx, k, "add tap", s.Name, s.Alias); err != nil {
		return err
	}
	return k.AddTap(ctx, s.Name, s.Alias, s.MTU)
}

// Undo deletes the tap if it still exists, even if a process made it persistent.
func (s AddTap) Undo(ctx context.Context, k Kernel) error { return delMade(ctx, k, s) }

// Made finds the tap by our mark.
func (s AddTap) Made(ctx context.Context, k Kernel) (string, error) {
	there, err := s.Holds(ctx, k)
	if err != nil || !there {
		return "", err
	}
	return s.Name, nil
}

// Holds reports whether the tap is there and bears our mark.
func (s AddTap) Holds(ctx context.Context, k Kernel) (bool, error) {
	return marked(ctx, k, s.Name, s.Alias)
}

func (s AddTap) String() string {
	cmd := fmt.Sprintf("ip tuntap add %s mode tap user root group root vnet_hdr\nip link set %s alias %s", s.Name, s.Name, s.Alias)
	if s.MTU != host.DefaultMTU {
		cmd += fmt.Sprintf("\nip link set %s mtu %d", s.Name, s.MTU)
	}
	return cmd
}

// UndoString is the command that deletes the tap.
func (s AddTap) UndoString() string { return "ip link del " + s.Name }

// Port names the tap.
func (s AddTap) Port() string { return s.Name }

// Open reports whether a process has the tap's file open: then it has a carrier.
func (s AddTap) Open(ctx context.Context, k Kernel) (open, told bool, err error) {
	l, ok, err := k.Link(ctx, s.Name)
	return ok && l.Alias == s.Alias && l.Carrier, true, err
}
