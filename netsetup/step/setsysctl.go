package step

import (
	"context"
	"errors"
	"io/fs"
	"strings"
)

var _ = register[SetSysctl]()

// SetSysctl writes a value below /proc/sys. Old is what the host had; "" means
// the key belongs to a link of ours and goes with it.
type SetSysctl struct {
	Key   string `json:"key"` // "net/ipv4/conf/eth0/forwarding"
	Value string `json:"value"`
	Old   string `json:"old,omitempty"`
	// Wider is the key that sets this one and all others of its kind. Once it has our
	// value, somebody else wants that here too, and it is not put back.
	Wider string `json:"wider,omitempty"`
}

// Do writes the value.
func (s SetSysctl) Do(ctx context.Context, k Kernel) error { return k.SetSysctl(ctx, s.Key, s.Value) }

// Undo writes the old value back if the key still holds ours, and ours alone.
func (s SetSysctl) Undo(ctx context.Context, k Kernel) error {
	if s.Old == "" {
		return nil
	}
	now, err := k.Sysctl(ctx, s.Key)
	if err != nil || now != s.Value {
		return nil //nolint:nilerr // the link is gone, or somebody else's value stands: neither is ours to mend
	}
	if wanted, err := s.WantedByOthers(ctx, k); wanted || err != nil {
		return err
	}
	return k.SetSysctl(ctx, s.Key, s.Old)
}

// WantedByOthers reports whether another program has set all keys of the kind to
// our value meanwhile, as one does that turns ip_forward on.
func (s SetSysctl) WantedByOthers(ctx context.Context, k Kernel) (bool, error) {
	if s.Wider == "" {
		return false, nil
	}
	wide, err := k.Sysctl(ctx, s.Wider)
	return wide == s.Value, err
}

func (s SetSysctl) String() string { return sysctlCommand(s.Key, s.Value) }

// UndoString is the command Undo equals.
func (s SetSysctl) UndoString() string {
	if s.Old == "" {
		return ""
	}
	return sysctlCommand(s.Key, s.Old)
}

// sysctlCommand keeps the slashes, which sysctl(8) takes too: a link's name may hold dots.
func sysctlCommand(key, value string) string { return "sysctl -qw " + key + "=" + value }

// Holds reports whether the key has our value.
func (s SetSysctl) Holds(ctx context.Context, k Kernel) (bool, error) {
	now, err := k.Sysctl(ctx, s.Key)
	if errors.Is(err, fs.ErrNotExist) {
		// Its link is gone: the host's own may be, ours not. Or only IPv6 is (withoutIPv6).
		return s.Old != "" || strings.HasSuffix(s.Key, "/disable_ipv6"), nil
	}
	return now == s.Value, err
}
