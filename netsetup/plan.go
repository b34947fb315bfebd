package netsetup

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/profiles"
)

// DefaultMTU is Ethernet's, in bytes, which guests take for granted.
const DefaultMTU = 1500

// forwardedSet names the set of links whose forwarding the network turned on.
const forwardedSet = "newly_forwarded"

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

// PlanOptions are the inputs of a plan that are neither the profile's nor the network's.
type PlanOptions struct {
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
	Steps   StepList        `json:"steps"`
}

// NewPlan decides everything; it is pure. It returns ErrRefused, with the way
// out in the text, when the host's state forbids the network.
func NewPlan(n Network, f Facts, o PlanOptions) (Plan, error) {
	p, err := planNetwork(n, f, o)
	if err != nil {
		return Plan{}, err
	}
	if zone, ok := p.zone(f.Firewalld); ok {
		p.Steps = append(p.Steps, zone)
	} else if in := f.Firewalld.Zones[p.Bridge]; in != "" {
		p.Notes = append(p.Notes, fmt.Sprintf("firewalld has bridge %s in its zone %q by your settings: guests reach what that lets them", p.Bridge, in))
	}
	accepts, notes := p.LetPass(f.Filters, f.Firewalld.Running)
	p.Steps, p.Notes = append(p.Steps, accepts...), append(p.Notes, notes...)
	return p, nil
}

func planNetwork(n Network, f Facts, o PlanOptions) (Plan, error) {
	p := Plan{Network: n, Bridge: BridgeName(n.Name), MTU: DefaultMTU, HasIPv6: f.HasIPv6, Steps: leaveAlone(f.Configurators)}
	for _, c := range f.Configurators {
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
		err = fmt.Errorf("plan network %q: mode %q makes no network: %w", n.Name, n.Mode, ErrRefused)
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

func subnet(n Network, bridge string, f Facts, o PlanOptions) (netip.Prefix, error) {
	if !n.Subnet.IsValid() {
		return chooseSubnet(n.Name, bridge, f, o)
	}
	if c := conflict(n.Subnet, f, bridge); c != "" {
		return netip.Prefix{}, fmt.Errorf("plan network %q: subnet %s overlaps the host's %s: choose another, or leave subnet out: %w",
			n.Name, n.Subnet, c, ErrRefused)
	}
	return n.Subnet, nil
}

func (p *Plan) findUplinks(f Facts) error {
	if p.Network.Uplink == "" {
		p.Uplinks = f.Uplinks()
		if l, ok := f.DefaultLink(); ok { // first: where guests mostly leave
			others := slices.DeleteFunc(p.Uplinks, func(name string) bool { return name == l.Name })
			p.Uplinks = slices.Insert(others, 0, l.Name)
		}
		return nil
	}
	l, ok := f.Link(p.Network.Uplink)
	if !ok {
		return fmt.Errorf("plan network %q: uplink %q: there is no such link: %w", p.Network.Name, p.Network.Uplink, ErrRefused)
	}
	if l.Loopback || l.ours() {
		return fmt.Errorf("plan network %q: uplink %q leads nowhere outside: %w", p.Network.Name, l.Name, ErrRefused)
	}
	p.Uplinks = []string{l.Name}
	return nil
}

// ownBridgeSteps makes the network of the three modes with a bridge of their own.
func (p *Plan) ownBridgeSteps(f Facts, mac net.HardwareAddr) StepList {
	steps := StepList{AddBridge{Name: p.Bridge, MAC: mac, MTU: p.MTU, Alias: networkMark(p.Network.Name)}}
	steps = append(steps, p.bridgeSysctls()...)
	forwarding := SetSysctl{Key: forwardingKey(p.Bridge), Value: "0"}
	if p.Network.Mode == profiles.NAT {
		forwarding.Value = "1"
	}
	steps = append(steps, forwarding)
	var off []string // uplinks whose forwarding the network turns on
	for _, l := range p.Uplinks {
		if f.Sysctls[forwardingKey(l)] == "0" {
			off = append(off, l)
		}
	}
	for _, t := range p.tables(off) {
		steps = append(steps, AddTable{Table: t})
	}
	if p.Prefix.IsValid() {
		steps = append(steps, AddAddr{Link: p.Bridge, Prefix: netip.PrefixFrom(p.Gateway, p.Prefix.Bits())})
	}
	steps = append(steps, SetUp{Link: p.Bridge})
	for _, l := range off {
		steps = append(steps, uplinkForwarding(l, f))
	}
	return steps
}

// uplinkForwarding turns an uplink's forwarding on, where it is off: replies
// from outside come in by it. The global ip_forward would change every link and
// reset other settings (F43).
func uplinkForwarding(link string, f Facts) SetSysctl {
	step := SetSysctl{Key: forwardingKey(link), Value: "1", Old: "0"}
	if f.Sysctls[ipForward] != "1" { // else it was turned off for this link
		step.Wider = ipForward
	}
	return step
}

// NewlyForwarded lists the uplinks whose forwarding the steps turned on and no other
// program wants: what this would newly let pass between the host's other links is to be
// dropped.
func NewlyForwarded(k Kernel, steps []Step) ([]string, error) {
	var links []string
	for _, s := range steps {
		link, ok := UplinkOf(s)
		if !ok {
			continue
		}
		wanted, err := s.(SetSysctl).WantedByOthers(k)
		if err != nil {
			return nil, err
		}
		if !wanted {
			links = append(links, link)
		}
	}
	return links, nil
}

// UplinkOf is the uplink whose forwarding a step turns on; false if it does not.
func UplinkOf(s Step) (string, bool) {
	sysctl, ok := s.(SetSysctl)
	if !ok || sysctl.Old == "" {
		return "", false
	}
	return forwardingLink(sysctl.Key)
}

// bridgeSysctls keep a guest from configuring the host: no IPv6 on the bridge
// (an RA would give the host a route, F38), no redirects, ARP answers only for
// the bridge's own address, loose source checks for guests with two NICs (F41).
func (p *Plan) bridgeSysctls() StepList {
	steps := p.withoutIPv6(p.Bridge)
	for _, kv := range [][2]string{
		{"accept_redirects", "0"}, {"send_redirects", "0"}, {"arp_ignore", "1"}, {"rp_filter", "2"},
	} {
		steps = append(steps, SetSysctl{Key: "net/ipv4/conf/" + p.Bridge + "/" + kv[0], Value: kv[1]})
	}
	return steps
}

// PortSteps connect one NIC: a tap, without IPv6 on the host's side (which
// would speak to the guest), as a port of the bridge.
func (p Plan) PortSteps(port Port) StepList {
	if p.Network.Macvtap {
		return p.macvtapSteps(port)
	}
	tap := TapName(port.VM, port.NIC)
	steps := StepList{AddTap{Name: tap, Alias: portMark(p.Network.Name, port.VM, port.NIC), MTU: p.MTU}}
	steps = append(steps, p.withoutIPv6(tap)...)
	return append(steps, SetPort{Link: tap, Bridge: p.Bridge}, SetUp{Link: tap})
}

// AddForwarded puts an uplink found while the network runs into the set of the plan's
// own table, so that the table still drops by it when it is added anew.
func (p *Plan) AddForwarded(link string) {
	if set := p.forwardedSet(); set != nil && !slices.Contains(set.Links, link) {
		set.Links = append(set.Links, link)
	}
}

// ForwardedSet names the set of AddForwarded in the table TableName; "" where the mode
// has none. An older qnet's plan may have another name for it.
func (p *Plan) ForwardedSet() string {
	if set := p.forwardedSet(); set != nil {
		return set.Name
	}
	return ""
}

func (p *Plan) forwardedSet() *nft.Set {
	for _, s := range p.Steps {
		if table, ok := s.(AddTable); ok && len(table.Table.Sets) > 0 {
			return &table.Table.Sets[0]
		}
	}
	return nil
}

// Adopt takes over a network that a dead keeper left, for VMs that live: its
// tables become this Kernel's; the rest is as it was.
func Adopt(k Kernel, p Plan) error {
	for _, s := range p.Steps {
		if table, ok := s.(AddTable); ok {
			if err := k.AdoptTable(table.Table); err != nil {
				return err
			}
		}
	}
	return nil
}

// Stands reports whether the plan's bridge is there and bears its mark, or with
// macvtap whether the uplink is there.
func Stands(k Kernel, p Plan) (bool, error) {
	if p.Network.Macvtap {
		_, ok, err := k.Link(p.Network.Uplink)
		return ok, err
	}
	l, ok, err := k.Link(p.Bridge)
	if err != nil || !ok {
		return false, err
	}
	for _, s := range p.Steps {
		if b, ours := s.(AddBridge); ours {
			return l.Alias == b.Alias, nil
		}
	}
	return true, nil // a bridge we only joined
}

// NewUplink is the step for an uplink found while the network runs; off tells
// whether its forwarding is off, so that the step is needed.
func NewUplink(f Facts, link string) (step SetSysctl, off bool) {
	return uplinkForwarding(link, f), f.Sysctls[forwardingKey(link)] == "0"
}
