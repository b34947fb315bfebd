package plan

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nat66"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/subnet"
	"github.com/qnet-vm/qnet/netsetup/ula"
	"github.com/qnet-vm/qnet/profiles"
)

// Network is what a profile asks of a network.
type Network struct {
	Name   string        `json:"name"`
	Mode   profiles.Mode `json:"mode"`            // private, host-only, nat or bridge
	Subnet netip.Prefix  `json:"subnet,omitzero"` // zero: choose one
	IPv6   bool          `json:"ipv6,omitempty"`  // host-only and nat: guests have IPv6 of qnet's
	// Subnet6 is the IPv6 prefix, a /64; zero: choose one.
	Subnet6 netip.Prefix `json:"subnet6,omitzero"`

	Uplink string `json:"uplink,omitempty"` // "": nat uses all, bridge the default route's
	// Asked is the alternative name by which the profile calls the uplink; New sets it.
	Asked string `json:"asked,omitempty"`
	// Macvtap, in mode bridge, connects VMs to the uplink without a bridge.
	Macvtap bool         `json:"macvtap,omitempty"`
	MTU     int          `json:"mtu,omitempty"` // bytes; 0: choose it; not in mode bridge
	PXE     profiles.PXE `json:"pxe,omitzero"`
	// Metadata, in mode nat, lets guests send to where clouds keep metadata.
	Metadata bool `json:"metadata,omitempty"`
}

// Query returns what host.Observe must read for the network's plan.
func (n Network) Query() host.Query {
	return host.Query{LAN: n.Mode == profiles.Bridge && !n.Macvtap, Uplink: n.Uplink, IPv6: n.IPv6}
}

// Options are the inputs of a plan that are neither the profile's nor the host's.
type Options struct {
	Salt        []byte       // of journal.LoadSalt; MACs and subnets derive from it
	Remembered  netip.Prefix // the subnet that the network had last time, zero if none
	Remembered6 netip.Prefix // the same of its IPv6 prefix
	AssumeYes   bool         // skip checkable: move the host although the move cannot be verified
	SetUp       []string     // links that were down, and that other networks of the run directory have set up
	Runs        bool         // the network runs in this run directory: a bridge with its mark is its own
}

// Plan is everything decided for one network.
type Plan struct {
	Network  Network      `json:"network"`
	Bridge   string       `json:"bridge"`             // "" with macvtap
	MTU      int          `json:"mtu"`                // bytes
	Prefix   netip.Prefix `json:"prefix,omitzero"`    // host-only and nat: the subnet
	Gateway  netip.Addr   `json:"gateway,omitzero"`   // the host's address in Prefix
	Prefix6  netip.Prefix `json:"prefix6,omitzero"`   // of a network with IPv6, where the host has it: a /64
	Way6     nat66.Way    `json:"way6,omitempty"`     // nat with Prefix6: how the host forwards for guests
	Outward6 bool         `json:"outward6,omitempty"` // guests leave by the host's default route of IPv6
	Gateway6 netip.Addr   `json:"gateway6,omitzero"`  // the host's address in Prefix6
	Uplinks  []string     `json:"uplinks,omitempty"`  // nat: most used first; bridge: the NIC
	// Beside, of nat, are bridges of others by which the host reaches something: a second LAN,
	// or another program's guests. The host forwards to the guests what answers there.
	Beside    []string        `json:"beside,omitempty"`
	Unreached []string        `json:"unreached,omitempty"` // those of Notes that say what guests do not reach
	HasIPv6   bool            `json:"has_ipv6"`
	STP       bool            `json:"waits,omitempty"` // the bridge that the network joins runs STP, so ports forward late
	Notes     []string        `json:"notes,omitempty"` // for the user
	Client    managers.Client `json:"client,omitzero"` // bridge: what configures the NIC that becomes a port
	Steps     step.List       `json:"steps"`
	// Forwards are those that the VMs have by now: the keeper sets them (ForwardSteps).
	Forwards []nft.Destination `json:"forwards,omitempty"`
}

// New makes the plan of a network. It returns host.ErrRefused, with the way out in the text,
// when the host's state forbids the network.
func New(n Network, f host.Facts, o Options) (Plan, error) {
	n, err := n.named(f)
	if err != nil {
		return Plan{}, err
	}
	p, err := planMode(n, f, o)
	if err != nil {
		return Plan{}, err
	}
	if err := p.checkSysctls(f); err != nil {
		return Plan{}, err
	}
	p.Unreached = p.UnreachedOf(f)
	p.Notes = slices.Concat(p.Notes, p.Unreached, f.Unknown)
	if zone, ok := p.Zone(f.Firewalld); ok {
		p.Steps = append(p.Steps, zone)
	} else if in := f.Firewalld.Zones[p.Bridge]; in != "" {
		p.Notes = append(p.Notes, userZoneNote(p.Bridge, in))
	}
	accepts, notes := p.AcceptSteps(f.Filters, f.Firewalld.Running)
	p.Steps, p.Notes = append(p.Steps, accepts...), append(p.Notes, Sentences(notes)...)
	return p, nil
}

// checkSysctls refuses a plan that sets sysctls, of the host or of a VM's port, where none can
// be set: nothing has changed then.
func (p *Plan) checkSysctls(f host.Facts) error {
	if f.NoSysctls == "" {
		return nil
	}
	steps := slices.Concat(p.Steps, p.PortSteps(NIC{VM: "check"}))
	if _, sets := step.Find[step.SetSysctl](steps); !sets {
		return nil
	}
	return p.Network.refuse("%s, so its links cannot be set up: in a container, run it with --privileged or --security-opt systempaths=unconfined; else make it writable with \"mount -o remount,rw /proc/sys\"; or use mode = \"user\"", f.NoSysctls)
}

// planMode decides what the mode needs, and nothing about other programs' filters.
func planMode(n Network, f host.Facts, o Options) (Plan, error) {
	p := Plan{Network: n, Bridge: host.BridgeName(n.Name), MTU: host.DefaultMTU, HasIPv6: f.HasIPv6, Steps: LeaveAloneSteps(f.Managers)}
	p.Notes = managerNotes(f.Managers)
	if err := n.checkMTU(); err != nil {
		return Plan{}, err
	}
	switch n.Mode {
	case profiles.Private, profiles.HostOnly, profiles.NAT:
		return planOwnBridge(p, f, o)
	case profiles.Bridge:
		if n.Macvtap {
			return planMacvtap(p, f, o)
		}
		return planBridge(p, f, o)
	}
	return Plan{}, host.Refuse("plan network %q: mode %q makes no network: use private, host-only, nat or bridge", n.Name, n.Mode)
}

// planOwnBridge makes a bridge of the network's own: modes private, host-only and nat.
func planOwnBridge(p Plan, f host.Facts, o Options) (Plan, error) {
	n := p.Network
	if n.Mode != profiles.Private {
		var err error
		want := subnet.Request{Network: n.Name, Bridge: p.Bridge, Pinned: n.Subnet, Remembered: o.Remembered, Salt: o.Salt}
		if p.Prefix, err = subnet.Choose(want, f); err != nil {
			return Plan{}, err
		}
		p.Gateway = subnet.Gateway(p.Prefix)
		if by := subnet.Defined(p.Prefix, f); by != "" {
			p.Notes = append(p.Notes, sharedSubnetNote(p.Prefix, n.Name, by))
		}
	}
	if n.Mode == profiles.NAT {
		if err := p.findUplinks(f); err != nil {
			return Plan{}, err
		}
		p.MTU = jumbo(p.Uplinks, f)
	}
	p.chooseMTU(f)
	if err := p.choosePrefix6(f, o); err != nil {
		return Plan{}, err
	}
	p.Steps = append(p.Steps, p.ownBridgeSteps(f, macgen.Derive(o.Salt, "network/"+n.Name, 0))...)
	return p, nil
}

// ownBridgeSteps make the bridge, its rules and its address, and forwarding in mode nat.
func (p *Plan) ownBridgeSteps(f host.Facts, mac net.HardwareAddr) step.List {
	steps := append(make(step.List, 0, 32), step.AddBridge{Name: p.Bridge, MAC: mac, MTU: p.MTU, Alias: host.NetworkMark(p.Network.Name)})
	steps = append(steps, p.bridgeSysctls()...)
	forwarding := step.SetSysctl{Key: host.ForwardingKey(p.Bridge), Value: "0"}
	if p.Network.Mode == profiles.NAT {
		forwarding.Value = "1"
	}
	steps = append(steps, forwarding)
	var off, bridges []string // uplinks whose forwarding the network turns on
	for _, l := range slices.Concat(p.Uplinks, p.Beside) {
		if f.Sysctls[host.ForwardingKey(l)] == "0" {
			off = append(off, l)
			if link, ok := f.Link(l); ok && link.Kind == "bridge" {
				bridges = append(bridges, l)
			}
		}
	}
	for _, t := range p.tables(off, bridges, f) {
		steps = append(steps, step.AddTable{Table: t})
	}
	if p.Prefix.IsValid() {
		steps = append(steps, step.AddAddr{Link: p.Bridge, Prefix: netip.PrefixFrom(p.Gateway, p.Prefix.Bits())})
	}
	if p.Prefix6.IsValid() {
		steps = append(steps, step.AddAddr{Link: p.Bridge, Prefix: netip.PrefixFrom(p.Gateway6, ula.Bits)})
	}
	steps = append(steps, step.SetUp{Link: p.Bridge})
	for _, l := range off {
		steps = append(steps, uplinkForwarding(l, f))
	}
	if p.Network.Mode == profiles.NAT {
		steps = append(append(steps, p.forward6Steps(f)...), p.ExitSteps(f)...)
	}
	return steps
}

// bridgeSysctls keep a guest from configuring the host: no IPv6 on the bridge, or none that
// guests tell the host of (a router advertisement would give it a route, F38), no redirects, ARP replies only for the
// bridge's own address, loose source checks for guests with two NICs (F41). The host asks for a
// guest's MAC five times in a second, for as long as it else does in three: who connects to a
// guest in the moment in which it gets its address need not wait for a second (arp(7)).
func (p *Plan) bridgeSysctls() step.List {
	steps := append(make(step.List, 0, 12), p.bridgeIPv6()...)
	for _, kv := range [][2]string{
		{"accept_redirects", "0"}, {"send_redirects", "0"}, {"arp_ignore", "1"}, {"rp_filter", "2"},
	} {
		steps = append(steps, step.SetSysctl{Key: "net/ipv4/conf/" + p.Bridge + "/" + kv[0], Value: kv[1]})
	}
	if p.Prefix.IsValid() {
		for _, kv := range [][2]string{{"retrans_time_ms", "200"}, {"mcast_solicit", "15"}} {
			steps = append(steps, step.SetSysctl{Key: "net/ipv4/neigh/" + p.Bridge + "/" + kv[0], Value: kv[1]})
		}
	}
	return steps
}

// MovesHost reports whether the plan moves the host from its NIC to the bridge.
func (p Plan) MovesHost() bool {
	_, ok := step.Find[step.MoveToBridge](p.Steps)
	return ok
}

// refuse is host.Refuse about the network.
func (n Network) refuse(format string, args ...any) error {
	return host.Refuse("plan network %q: %s", n.Name, fmt.Sprintf(format, args...))
}
