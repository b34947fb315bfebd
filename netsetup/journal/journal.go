package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Journal says how to undo a network.
type Journal struct {
	BootID string               `json:"boot_id"` // of host.BootID: after another boot nothing is left to undo
	NetNS  string               `json:"netns"`   // of host.NetNS: the namespace that the steps changed
	Plan   plan.Plan            `json:"plan"`
	Links  []host.Identity      `json:"links,omitempty"` // of the host's own, the uplinks; none where an older qnet wrote it
	Ports  map[string]step.List `json:"ports,omitempty"` // by VM
	Added  step.List            `json:"added,omitempty"` // while the network runs: forwarding of uplinks, raised metrics
	Pins   step.List            `json:"pins,omitempty"`  // of guests whose addresses other programs' routes take
	VMs    []string             `json:"vms,omitempty"`   // for messages only

	encoded map[string]encodedSteps // Ports as Write wrote them last
}

// encodedSteps are the steps of a VM in JSON. They spare Write the work for the VMs that did
// not change.
type encodedSteps struct {
	of   step.List
	json json.RawMessage
}

// New returns the journal of a plan that is about to be done in this boot and namespace.
func New(p plan.Plan) (*Journal, error) {
	boot, err := host.BootID()
	if err != nil {
		return nil, err
	}
	ns, err := host.NetNS()
	if err != nil {
		return nil, err
	}
	return &Journal{BootID: boot, NetNS: ns, Plan: p, Ports: map[string]step.List{}}, nil
}

// Steps returns all steps of the journal in the order in which they were done.
func (j *Journal) Steps() step.List {
	steps := append(step.List{}, j.Plan.Steps...)
	steps = append(steps, j.Added...)
	for _, port := range j.Ports {
		steps = append(steps, port...)
	}
	return append(steps, j.Pins...)
}

// Stands reports whether the plan's bridge is there and bears its mark. With macvtap it
// reports whether the uplink is there.
func Stands(ctx context.Context, k step.Kernel, p plan.Plan) (bool, error) {
	if p.Network.Macvtap {
		_, ok, err := k.Link(ctx, p.Network.Uplink)
		return ok, err
	}
	l, ok, err := k.Link(ctx, p.Bridge)
	if err != nil || !ok {
		return false, err
	}
	if ours, ok := step.Find[step.AddBridge](p.Steps); ok {
		return l.Alias == ours.Alias, nil
	}
	return true, nil // a bridge of the host's, which VMs join
}

// Write replaces the file at once: a reader finds the old journal or the new one.
func (j *Journal) Write(path string) error {
	ports, err := j.encodePorts()
	var b []byte
	if err == nil {
		type rest Journal // its Ports are hidden by those of the outer struct
		b, err = json.Marshal(struct {
			*rest
			Ports map[string]json.RawMessage `json:"ports,omitempty"`
		}{(*rest)(j), ports})
	}
	if err != nil {
		return fmt.Errorf("encode journal: %w", err)
	}
	return atomicfile.Write(path, b)
}

// encodePorts encodes the steps of the VMs that changed since the last Write.
func (j *Journal) encodePorts() (map[string]json.RawMessage, error) {
	ports, encoded := map[string]json.RawMessage{}, map[string]encodedSteps{}
	for vm, steps := range j.Ports {
		e := j.encoded[vm]
		if !sameList(steps, e.of) {
			raw, err := json.Marshal(steps)
			if err != nil {
				return nil, err
			}
			e = encodedSteps{steps, raw}
		}
		ports[vm], encoded[vm] = e.json, e
	}
	j.encoded = encoded
	return ports, nil
}

// sameList reports whether the two are one list.
func sameList(a, b step.List) bool { return len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] }

// Read reads what Write wrote, also by an older qnet.
func Read(path string) (*Journal, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var j Journal
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("read journal %s: %w", path, err)
	}
	return &j, nil
}
