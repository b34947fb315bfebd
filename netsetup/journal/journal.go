package journal

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/qnet-vm/qnet/internal/atomicfile"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Journal is what undoes a network after its keeper died: written before the
// first step, read by whoever comes next.
type Journal struct {
	BootID string               `json:"boot_id"` // another boot: nothing is left to undo
	NetNS  string               `json:"netns"`   // another namespace: not ours to touch
	Plan   plan.Plan            `json:"plan"`
	Ports  map[string]step.List `json:"ports,omitempty"` // by VM
	Added  step.List            `json:"added,omitempty"` // uplinks found while running
	Pins   step.List            `json:"pins,omitempty"`  // of guests whose addresses were taken
	VMs    []string             `json:"vms,omitempty"`   // for messages only

	encoded map[string]encodedSteps // of Ports, as Write wrote them last
}

// encodedSteps spare Write the work for the VMs that did not change.
type encodedSteps struct {
	of   step.List
	json json.RawMessage
}

// sameList reports whether the two are one list.
func sameList(a, b step.List) bool { return len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] }

// New is the journal of a plan about to be applied here and now.
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

// Steps are all steps of the journal in the order they were done.
func (j *Journal) Steps() step.List {
	steps := append(step.List{}, j.Plan.Steps...)
	steps = append(steps, j.Added...)
	for _, port := range j.Ports {
		steps = append(steps, port...)
	}
	return append(steps, j.Pins...)
}

// Write replaces the file in one go.
func (j *Journal) Write(path string) error {
	ports, err := j.encodePorts()
	var b []byte
	if err == nil {
		type rest Journal // without the Ports, which the outer ones hide
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

// Read reads what Write wrote.
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
