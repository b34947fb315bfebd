package netsetup

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// ErrNoTapDevice tells that the kernel's device of a macvtap link cannot be found.
var ErrNoTapDevice = errors.New(`the kernel's device of a macvtap link is not there (is /dev a container's own?): leave macvtap out, or use mode = "nat"`)

// planMacvtap leaves the uplink, its addresses and who manages it alone: each NIC
// of a VM gets a macvtap link of its own on it, and there is no bridge.
func planMacvtap(p Plan, f Facts) (Plan, error) {
	up, err := lanLink(p.Network, f)
	if err != nil {
		return Plan{}, err
	}
	if why := macvtapUnfit(up, f); why != "" {
		return Plan{}, refuseUplink(p.Network, up, why)
	}
	p.Network.Uplink, p.Uplinks = up.Name, []string{up.Name}
	p.Bridge, p.MTU = "", up.MTU
	if !up.Up {
		p.Steps = append(p.Steps, SetUp{Link: up.Name, Restore: true})
	}
	p.Notes = append(p.Notes, fmt.Sprintf("network %s is by macvtap on %s: this host and its VMs do not reach each other (VMs and the rest of the LAN do)",
		p.Network.Name, up.Name))
	return p, nil
}

// macvtapUnfit tells why the uplink cannot carry macvtap links, "" if it can.
func macvtapUnfit(up Link, f Facts) string {
	if why := notEthernet(up); why != "" {
		return why
	}
	if up.Kind == "bridge" {
		return "is a bridge, which VMs can join as ports: leave macvtap out"
	}
	if network, vms, ok := bridgedBy(f, up); ok {
		return fmt.Sprintf("is a port of network %q (%s), which is in mode bridge without macvtap, and a NIC cannot be both (EBUSY): "+
			"give both networks the same macvtap, or stop the VMs of one", network, inWords(vms))
	}
	if m, ok := f.linkByIndex(up.Master); ok {
		return fmt.Sprintf("already is a port of %s, and the kernel refuses macvtap on a port (EBUSY): use uplink = %q without macvtap", m.Name, m.Name)
	}
	if i := slices.IndexFunc(f.Links, func(l Link) bool { return l.Parent == up.Index && strings.HasPrefix(l.Kind, "ipv") }); i >= 0 {
		return fmt.Sprintf("has %s of kind %s on top, so the kernel refuses macvtap on it (EBUSY)", f.Links[i].Name, f.Links[i].Kind)
	}
	return ""
}

// bridgedBy finds the network of qnet's that has the link as a port, and its VMs.
func bridgedBy(f Facts, up Link) (network string, vms []string, ok bool) {
	bridge, ok := f.linkByIndex(up.Master)
	if !ok || !bridge.ours() {
		return "", nil, false
	}
	for _, l := range f.Links {
		if _, vm, isPort := portOf(l); isPort && l.Master == bridge.Index {
			vms = append(vms, vm)
		}
	}
	return strings.TrimPrefix(bridge.Alias, "qnet:"), vms, true
}

// tappedBy finds the first network of qnet's that has macvtap links on the link,
// and its VMs.
func tappedBy(f Facts, up Link) (network string, vms []string, ok bool) {
	for _, l := range f.Links {
		n, vm, isPort := portOf(l)
		if !isPort || l.Kind != "macvtap" || l.Parent != up.Index || ok && n != network {
			continue
		}
		network, vms, ok = n, append(vms, vm), true
	}
	return network, vms, ok
}

// portOf reads the mark of a VM's port.
func portOf(l Link) (network, vm string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(l.Alias, "qnet:"), "/")
	if !l.ours() || len(parts) != 3 {
		return "", "", false
	}
	return parts[0], parts[1], true
}

func inWords(vms []string) string {
	if len(vms) == 0 {
		return "no VM of which is there yet"
	}
	return "VM " + strings.Join(slices.Compact(slices.Sorted(slices.Values(vms))), ", ")
}

// macvtapSteps connect one NIC. Nothing of the host's own may speak by the link.
func (p Plan) macvtapSteps(port Port) StepList {
	name := TapName(port.VM, port.NIC)
	steps := StepList{AddMacvtap{
		Name: name, Uplink: p.Network.Uplink, MAC: port.MAC, Alias: portMark(p.Network.Name, port.VM, port.NIC),
	}}
	steps = append(steps, p.withoutIPv6(name)...)
	return append(steps, SetUp{Link: name})
}

// AddMacvtap creates a macvtap link in bridge mode on the uplink, whose MTU it
// takes. Other than a tap it stays when its device is closed.
type AddMacvtap struct {
	Name   string           `json:"name"`
	Uplink string           `json:"uplink"`
	MAC    net.HardwareAddr `json:"mac"` // the guest's: frames to others do not pass
	Alias  string           `json:"alias"`
}

// Do creates the link and opens its device; Kernel keeps the file. The kernel
// refuses a port of a bridge (EBUSY).
func (s AddMacvtap) Do(k Kernel) error {
	l, ok, err := k.Link(s.Name)
	if err != nil {
		return err
	}
	if ok {
		return fmt.Errorf("add macvtap %q: %w", s.Name, taken(l, s.Alias))
	}
	up, ok, err := k.Link(s.Uplink)
	if err != nil {
		return err
	}
	if ok && up.Master != 0 {
		return fmt.Errorf("add macvtap %q: %s is a port of a bridge (EBUSY): %w", s.Name, s.Uplink, ErrRefused)
	}
	return k.AddMacvtap(s)
}

// Undo deletes the link.
func (s AddMacvtap) Undo(k Kernel) error { return delMade(k, s) }

// made finds the link if it bears our mark, or if it is the one we were killed at
// before it was marked, which our MAC tells.
func (s AddMacvtap) made(k Kernel) (string, error) {
	l, ok, err := k.Link(s.Name)
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
func (s AddMacvtap) Holds(k Kernel) (bool, error) { return marked(k, s.Name, s.Alias) }

func (s AddMacvtap) String() string {
	return fmt.Sprintf("ip link add link %s name %s address %s type macvtap mode bridge\nip link set %s alias %s\nip link set %s allmulticast on",
		s.Uplink, s.Name, s.MAC, s.Name, s.Alias, s.Name)
}

// UndoString is the command Undo equals.
func (s AddMacvtap) UndoString() string { return "ip link del " + s.Name }
