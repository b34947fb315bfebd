package keeper

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/confine"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

// needed are the capabilities that no network can do without: to change links, and to read
// and send whole frames. Containers of Podman have no CAP_NET_RAW by default.
var needed = []struct {
	bit  uint
	name string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW"},
}

// MissingRights names the capabilities that a keeper needs and the calling process lacks
// (capabilities(7)).
func MissingRights() []string {
	capabilities, err := confine.Effective()
	if err != nil {
		capabilities = 0 // a filter forbids the question; it would forbid the answer's use
	}
	var missing []string
	for _, c := range needed {
		if capabilities&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// CheckRights returns host.ErrNoPermission if the process lacks a right that a keeper needs.
func CheckRights() error {
	if missing := MissingRights(); missing != nil {
		return host.OfKind(host.ErrNoPermission, "it needs %s", strings.Join(missing, " and "))
	}
	return nil
}

// MayJoin is CheckRights for a process that is about to join networks: before it downloads an
// image, or makes a disk. There may be none.
func MayJoin(networks []profiles.Network) error {
	for _, n := range networks {
		if err := CheckRights(); err != nil {
			return fmt.Errorf("join network %q: %w", n.Name, err)
		}
	}
	return nil
}
