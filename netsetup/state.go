package netsetup

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// LoadSalt reads the host's random salt, from which MACs and subnets derive, and
// makes it on first use: cloned machine-ids give different MACs.
func LoadSalt(stateDir string) ([]byte, error) {
	path := filepath.Join(stateDir, "salt")
	salt, err := os.ReadFile(path)
	if err == nil && len(salt) >= 16 {
		return salt, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read salt: %w", err)
	}
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	salt = make([]byte, 32)
	rand.Read(salt)
	// Link fails where another process was faster: its salt holds.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, salt, 0o644); err != nil {
		return nil, fmt.Errorf("write salt: %w", err)
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write salt: %w", err)
	}
	return os.ReadFile(path)
}

func subnetPath(stateDir, network string) string { return filepath.Join(stateDir, "subnets", network) }

// Remembered is the subnet the network had last time, zero if none.
func Remembered(stateDir, network string) netip.Prefix {
	b, err := os.ReadFile(subnetPath(stateDir, network))
	if err != nil {
		return netip.Prefix{}
	}
	p, _ := netip.ParsePrefix(strings.TrimSpace(string(b))) // a damaged file counts as none
	return p
}

// Remember keeps the subnet for the next time.
func Remember(stateDir, network string, p netip.Prefix) error {
	path := subnetPath(stateDir, network)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("remember subnet: %w", err)
	}
	return writeFile(path, []byte(p.String()+"\n"))
}

// Journal is what undoes a network after its keeper died: written before the
// first step, read by whoever comes next.
type Journal struct {
	BootID string              `json:"boot_id"` // another boot: nothing is left to undo
	NetNS  string              `json:"netns"`   // another namespace: not ours to touch
	Plan   Plan                `json:"plan"`
	Ports  map[string]StepList `json:"ports,omitempty"` // by VM
	Added  StepList            `json:"added,omitempty"` // uplinks found while running
	Pins   StepList            `json:"pins,omitempty"`  // of guests whose addresses were taken
	VMs    []string            `json:"vms,omitempty"`   // for messages only

	encoded map[string]encodedSteps // of Ports, as Write wrote them last
}

// encodedSteps spare Write the work for the VMs that did not change.
type encodedSteps struct {
	of   StepList
	json json.RawMessage
}

// same reports whether the lists are one.
func (l StepList) same(other StepList) bool {
	return len(l) > 0 && len(l) == len(other) && &l[0] == &other[0]
}

// NewJournal is the journal of a plan about to be applied here and now.
func NewJournal(p Plan) (*Journal, error) {
	boot, err := BootID()
	if err != nil {
		return nil, err
	}
	ns, err := NetNS()
	if err != nil {
		return nil, err
	}
	return &Journal{BootID: boot, NetNS: ns, Plan: p, Ports: map[string]StepList{}}, nil
}

// Steps are all steps of the journal in the order they were done.
func (j *Journal) Steps() StepList {
	steps := append(StepList{}, j.Plan.Steps...)
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
	return writeFile(path, b)
}

func (j *Journal) encodePorts() (map[string]json.RawMessage, error) {
	ports, encoded := map[string]json.RawMessage{}, map[string]encodedSteps{}
	for vm, steps := range j.Ports {
		e := j.encoded[vm]
		if !steps.same(e.of) {
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

// ReadJournal reads what Write wrote.
func ReadJournal(path string) (*Journal, error) {
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

// BootID identifies this boot of the kernel (random(4)).
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// NetNS identifies the process's network namespace, "net:[4026531840]".
func NetNS() (string, error) {
	s, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", fmt.Errorf("read network namespace: %w", err)
	}
	return s, nil
}

func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
