package apply

import (
	"context"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Snapshot is a Kernel that answers Link and ListLinks from one dump of all links, so that a network of many
// VMs costs one request. It is of use until a link changes.
type Snapshot struct {
	step.Kernel
	live step.Kernel // the Kernel that was dumped
}

// TakeSnapshot dumps all links.
func TakeSnapshot(ctx context.Context, k step.Kernel) (Snapshot, error) {
	list, err := k.ListLinks(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	links := dumpedLinks{Links: k.Links, list: list, byName: make(map[string]host.Link, len(list))}
	for _, l := range list {
		links.byName[l.Name] = l
	}
	snapshot := Snapshot{Kernel: k, live: k}
	snapshot.Links = links
	return snapshot, nil
}

// dumpedLinks are Links whose methods Link and ListLinks read the dump.
type dumpedLinks struct {
	step.Links
	list   []host.Link
	byName map[string]host.Link
}

// ListLinks returns the dump.
func (d dumpedLinks) ListLinks(context.Context) ([]host.Link, error) { return d.list, nil }

// Link returns the link as the dump has it.
func (d dumpedLinks) Link(_ context.Context, name string) (host.Link, bool, error) {
	l, ok := d.byName[name]
	return l, ok, nil
}
