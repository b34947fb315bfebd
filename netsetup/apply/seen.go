package apply

import (
	"context"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Snapshot is a Kernel that answers Link from one dump of all links, so that a network of
// many VMs needs one request. It is of use until a link changes.
type Snapshot struct {
	step.Kernel
	fresh step.Kernel // the one that Look looked through
}

// TakeSnapshot dumps all links.
func TakeSnapshot(ctx context.Context, k step.Kernel) (Snapshot, error) {
	list, err := k.ListLinks(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	links := seenLinks{Links: k.Links, byName: make(map[string]host.Link, len(list))}
	for _, l := range list {
		links.byName[l.Name] = l
	}
	seen := Snapshot{Kernel: k, fresh: k}
	seen.Links = links
	return seen, nil
}

// seenLinks are Links, one of whose calls the dump answers.
type seenLinks struct {
	step.Links
	byName map[string]host.Link
}

// Link returns the link as the dump had it.
func (s seenLinks) Link(_ context.Context, name string) (host.Link, bool, error) {
	l, ok := s.byName[name]
	return l, ok, nil
}
