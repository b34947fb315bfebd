package plan

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/profiles"
)

// Network is what a profile asks of a network.
type Network struct {
	Name   string        `json:"name"`
	Mode   profiles.Mode `json:"mode"`            // private, host-only, nat or bridge
	Subnet netip.Prefix  `json:"subnet,omitzero"` // zero: choose one
	Uplink string        `json:"uplink,omitempty"`
	// Macvtap, in mode bridge, connects VMs to the uplink without a bridge.
	Macvtap bool         `json:"macvtap,omitempty"`
	MTU     int          `json:"mtu,omitempty"` // bytes; 0: choose it; not in mode bridge
	PXE     profiles.PXE `json:"pxe,omitzero"`
}

// Options are the inputs of a plan that are neither the profile's nor the network's.
type Options struct {
	Salt       []byte       // of LoadSalt
	Remembered netip.Prefix // the subnet this network had last time, zero if none
	AssumeYes  bool         // move the host to a bridge though nobody could tell whether that went well
}

// Port is one NIC of a VM to be connected.
type Port struct {
	VM  string           `json:"vm"`
	NIC int              `json:"nic"`           // 0 to 15
	MAC net.HardwareAddr `json:"mac,omitempty"` // the guest's, for a macvtap link
}

// Plan is everything decided for one network.
type Plan struct {
	Network Network         `json:"network"`
	Bridge  string          `json:"bridge"` // "" with macvtap
	MTU     int             `json:"mtu"`
	Prefix  netip.Prefix    `json:"prefix,omitzero"`  // host-only and nat
	Gateway netip.Addr      `json:"gateway,omitzero"` // the host's address in Prefix
	Uplinks []string        `json:"uplinks,omitempty"`
	HasIPv6 bool            `json:"has_ipv6"`
	Waits   bool            `json:"waits,omitempty"` // the joined bridge runs STP: a VM waits for its ports to forward
	Notes   []string        `json:"notes,omitempty"` // what the user should know
	Client  managers.Client `json:"client,omitzero"` // bridge: what configures the NIC that becomes a port
	Steps   step.List       `json:"steps"`
}

// New decides everything; it is pure. It returns ErrRefused, with the way
// out in the text, when the host's state forbids the network.
func New(n Network, f host.Facts, o Options) (Plan, error) {
	p, err := planNetwork(n, f, o)
	if err != nil {
		return Plan{}, err
	}
	p.Notes = append(p.Notes, f.Unknown...)
	if zone, ok := p.zone(f.Firewalld); ok {
		p.Steps = append(p.Steps, zone)
	} else if in := f.Firewalld.Zones[p.Bridge]; in != "" {
		p.Notes = append(p.Notes, fmt.Sprintf("firewalld has bridge %s in its zone %q by your settings: guests reach what that lets them", p.Bridge, in))
	}
	accepts, notes := p.LetPass(f.Filters, f.Firewalld.Running)
	p.Steps, p.Notes = append(p.Steps, accepts...), append(p.Notes, Sentences(notes)...)
	return p, nil
}

func planNetwork(n Network, f host.Facts, o Options) (Plan, error) {
	p := Plan{Network: n, Bridge: host.BridgeName(n.Name), MTU: host.DefaultMTU, HasIPv6: f.HasIPv6, Steps: LeaveAlone(f.Managers)}
	for _, c := range f.Managers {
		if advice := managers.Advice(c); advice != "" {
			p.Notes = append(p.Notes, advice)
		}
	}
	err := n.checkMTU()
	if err != nil {
		return Plan{}, err
	}
	switch n.Mode {
	case profiles.Private:
	case profiles.HostOnly, profiles.NAT:
		p.Prefix, err = subnet(n, p.Bridge, f, o)
		if err == nil {
			p.Gateway = Gateway(p.Prefix)
		}
		if by := defined(p.Prefix, f); by != "" {
			p.Notes = append(p.Notes, fmt.Sprintf("subnet %s of network %s is that of %s, too: only one of them can run", p.Prefix, n.Name, by))
		}
	case profiles.Bridge:
		if n.Macvtap {
			return planMacvtap(p, f)
		}
		return planBridge(p, f, o)
	default:
		err = host.Refuse("plan network %q: mode %q makes no network", n.Name, n.Mode)
	}
	if err != nil {
		return Plan{}, err
	}
	if n.Mode == profiles.NAT {
		if err := p.findUplinks(f); err != nil {
			return Plan{}, err
		}
		p.MTU = jumbo(p.Uplinks, f)
	}
	p.chooseMTU(f)
	p.Steps = append(p.Steps, p.ownBridgeSteps(f, macgen.Derive(o.Salt, "network/"+n.Name, 0))...)
	return p, nil
}

func subnet(n Network, bridge string, f host.Facts, o Options) (netip.Prefix, error) {
	if !n.Subnet.IsValid() {
		return chooseSubnet(n.Name, bridge, f, o)
	}
	if c := conflict(n.Subnet, f, bridge); c != "" {
		return netip.Prefix{}, host.Refuse("plan network %q: subnet %s overlaps the host's %s: choose another, or leave subnet out",
			n.Name, n.Subnet, c)
	}
	return n.Subnet, nil
}

// ownBridgeSteps makes the network of the three modes with a bridge of their own.
func (p *Plan) ownBridgeSteps(f host.Facts, mac net.HardwareAddr) step.List {
	steps := step.List{step.AddBridge{Name: p.Bridge, MAC: mac, MTU: p.MTU, Alias: host.NetworkMark(p.Network.Name)}}
	steps = append(steps, p.bridgeSysctls()...)
	forwarding := step.SetSysctl{Key: host.ForwardingKey(p.Bridge), Value: "0"}
	if p.Network.Mode == profiles.NAT {
		forwarding.Value = "1"
	}
	steps = append(steps, forwarding)
	var off []string // uplinks whose forwarding the network turns on
	for _, l := range p.Uplinks {
		if f.Sysctls[host.ForwardingKey(l)] == "0" {
			off = append(off, l)
		}
	}
	for _, t := range p.tables(off) {
		steps = append(steps, step.AddTable{Table: t})
	}
	if p.Prefix.IsValid() {
		steps = append(steps, step.AddAddr{Link: p.Bridge, Prefix: netip.PrefixFrom(p.Gateway, p.Prefix.Bits())})
	}
	steps = append(steps, step.SetUp{Link: p.Bridge})
	for _, l := range off {
		steps = append(steps, uplinkForwarding(l, f))
	}
	return steps
}

// bridgeSysctls keep a guest from configuring the host: no IPv6 on the bridge
// (an RA would give the host a route, F38), no redirects, ARP answers only for
// the bridge's own address, loose source checks for guests with two NICs (F41).
func (p *Plan) bridgeSysctls() step.List {
	steps := p.withoutIPv6(p.Bridge)
	for _, kv := range [][2]string{
		{"accept_redirects", "0"}, {"send_redirects", "0"}, {"arp_ignore", "1"}, {"rp_filter", "2"},
	} {
		steps = append(steps, step.SetSysctl{Key: "net/ipv4/conf/" + p.Bridge + "/" + kv[0], Value: kv[1]})
	}
	return steps
}

// PortSteps connect one NIC: a tap, without IPv6 on the host's side (which
// would speak to the guest), as a port of the bridge.
func (p Plan) PortSteps(port Port) step.List {
	if p.Network.Macvtap {
		return p.macvtapSteps(port)
	}
	tap := host.TapName(port.VM, port.NIC)
	steps := step.List{step.AddTap{Name: tap, Alias: host.PortMark(p.Network.Name, port.VM, port.NIC), MTU: p.MTU}}
	steps = append(steps, p.withoutIPv6(tap)...)
	return append(steps, step.SetPort{Link: tap, Bridge: p.Bridge}, step.SetUp{Link: tap})
}

// MovesHost reports whether the plan moves the host from its NIC to the bridge.
func (p Plan) MovesHost() bool {
	_, ok := step.Find[step.MoveToBridge](p.Steps)
	return ok
}

// LeaveAlone has the programs that run here leave qnet's links alone. It comes
// first in a plan: a program that sees a link before it is told has taken it.
func LeaveAlone(programs []managers.Program) step.List {
	var steps step.List
	for _, p := range programs {
		if f, ok := managers.LeaveAlone(p); ok {
			steps = append(steps, step.ConfigFile{Program: p, Path: f.Path, Text: f.Text})
		}
	}
	return steps
}
