package step

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

var _ = Register[SetSysctl]()

// Sysctls are the files below /proc/sys. A key is the path there.
type Sysctls interface {
	Sysctl(ctx context.Context, key string) (string, error)
	SetSysctl(ctx context.Context, key, value string) error
}

// SetSysctl writes a value below /proc/sys.
type SetSysctl struct {
	Key   string `json:"key"` // "net/ipv4/conf/eth0/forwarding"
	Value string `json:"value"`
	// Old is the host's value. "" means that the key belongs to a link of ours and goes
	// with the link.
	Old string `json:"old,omitempty"`
	// Wider is the key that sets this one and all others of its kind. If it has our value
	// at the end, another program wants that value here, too, and Undo keeps it.
	Wider string `json:"wider,omitempty"`
}

// ofLink parts the key of a link's sysctl: "net/ipv4/conf/", the link, "/forwarding". link
// is "" for a key of no link.
func (s SetSysctl) ofLink() (dir, link, key string) {
	words := strings.SplitN(s.Key, "/", 4)
	if len(words) < 4 || words[0] != "net" || words[2] != "conf" && words[2] != "neigh" {
		return "", "", ""
	}
	link, key, ok := strings.Cut(words[3], "/")
	if !ok {
		return "", "", ""
	}
	return strings.Join(words[:3], "/") + "/", link, "/" + key
}

// Do writes the value.
func (s SetSysctl) Do(ctx context.Context, k Kernel) error { return k.SetSysctl(ctx, s.Key, s.Value) }

// Undo writes the old value back if the key still has ours and no other program wants it.
func (s SetSysctl) Undo(ctx context.Context, k Kernel) error {
	if s.Old == "" {
		return nil
	}
	now, err := k.Sysctl(ctx, s.Key)
	if err != nil || now != s.Value {
		return nil //nolint:nilerr // the link is gone, or another program's value stands: neither is ours to mend
	}
	if wanted, err := s.WantedByOthers(ctx, k); wanted || err != nil {
		return err
	}
	return k.SetSysctl(ctx, s.Key, s.Old)
}

// WantedByOthers reports whether another program has set all keys of the kind to our value
// meanwhile, as one does that turns ip_forward on.
func (s SetSysctl) WantedByOthers(ctx context.Context, k Kernel) (bool, error) {
	if s.Wider == "" {
		return false, nil
	}
	wide, err := k.Sysctl(ctx, s.Wider)
	return wide == s.Value, err
}

// Holds reports whether the key has our value. A key that is gone counts as having it if
// its link is the host's own, or if the kernel took IPv6 off the link.
func (s SetSysctl) Holds(ctx context.Context, k Kernel) (bool, error) {
	now, err := k.Sysctl(ctx, s.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return s.Old != "" || strings.HasSuffix(s.Key, "/disable_ipv6"), nil
	}
	return now == s.Value, err
}

func (s SetSysctl) String() string { return sysctlCommand(s.Key, s.Value) }

// UndoString is the command that writes the old value, "" where the key goes with its link.
func (s SetSysctl) UndoString() string {
	if s.Old == "" {
		return ""
	}
	return sysctlCommand(s.Key, s.Old)
}

// sysctlCommand keeps the slashes, which sysctl(8) takes too: a link's name may hold dots.
func sysctlCommand(key, value string) string { return "sysctl -qw " + key + "=" + value }

// Drift tells of a value that another program wrote over ours.
func (s SetSysctl) Drift(ctx context.Context, k Kernel, _ []Step) []string {
	now, err := k.Sysctl(ctx, s.Key)
	if err != nil || s.Old == "" || now == s.Value {
		return nil
	}
	return []string{fmt.Sprintf("sysctl %s was %s, was set to %s by qnet and to %s by another program: left as it is", s.Key, s.Old, s.Value, now)}
}
