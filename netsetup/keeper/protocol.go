package keeper

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/reach"
)

const (
	// Version is the version of the protocol that this binary speaks. Version 0 named
	// none: qnet until November 2026. It has no structured notes, one kind for each
	// error, and no command.
	Version = 1
	// Oldest is the oldest version that this binary understands.
	Oldest = 0
)

// Versions is what each side says of itself in its messages.
type Versions struct {
	Version int `json:"version,omitempty"` // the version it speaks
	Oldest  int `json:"oldest,omitempty"`  // the oldest it understands
}

// Speaks is what this binary says of itself.
var Speaks = Versions{Version, Oldest}

// Check returns an error that wraps host.ErrRefused if this binary, which
// speaks v, and the other side do not understand each other. network and vms are
// for the text: the user has to stop those VMs first.
func (v Versions) Check(other Versions, network string, vms []string) error {
	if other.Version >= v.Oldest && v.Version >= other.Oldest {
		return nil
	}
	age := "a newer"
	if other.Version < v.Version {
		age = "an older"
	}
	which := "all VMs on it"
	if len(vms) > 0 {
		which = fmt.Sprintf("VMs %v", vms)
	}
	return host.Refuse("network %q runs by %s qnet that this one cannot speak with (protocol version %d, here %d): stop %s, then start this VM",
		network, age, other.Version, v.Version, which)
}

// PortRequest asks for one NIC's connection.
type PortRequest struct {
	NIC     int              `json:"nic"` // index in the profile, 0 to 15
	MAC     net.HardwareAddr `json:"mac"`
	Address netip.Addr       `json:"address,omitzero"` // zero: derived from the MAC

	// Address6 is the guest's on a network with IPv6; zero: derived from the IPv4 address.
	Address6 netip.Addr `json:"address6,omitzero"`

	// Unguarded lets the guest send by any MAC and address, and serve DHCP and routes.
	Unguarded bool `json:"unguarded,omitempty"`

	// Reach is what the guest may reach.
	Reach reach.Policy `json:"reach,omitzero"`

	// Trace is set by a probe: the packets of the port and those from these addresses
	// are marked for trace.Start. Nil marks none.
	Trace []netip.Addr `json:"trace,omitzero"`

	// Forwards are ports of the host that lead to the guest. The keeper opens all sockets of a
	// VM, or none and refuses the VM with a ForwardError, before it changes anything.
	Forwards []Forward `json:"forwards,omitempty"`

	// Files are those of kernel.OpenTun that become the tap, one for each queue. They
	// stay the caller's. Without any, the keeper opens one.
	Files  []*os.File `json:"-"`
	Queues int        `json:"queues,omitempty"` // the number of Files, set by Join
}

// Forward is a port of the host that leads to a guest's.
type Forward = forward.Forward

// How a forward is done.
const (
	ByRelay = "relay" // by the process that has its socket, so that the guest sees the host
	ByDNAT  = "dnat"  // the same, but for other machines over IPv4, which the guest sees as they are
)

// Forwarded is a forward that the keeper has made.
type Forwarded struct {
	Forward
	How string `json:"how"` // ByRelay or ByDNAT

	// Connections are those that reached the guest by DNAT, in all, with UDP's flows; OpInfo only.
	Connections uint64 `json:"connections,omitempty"`
}

// Port is a connected NIC.
type Port struct {
	NIC     int              `json:"nic"`
	Tap     string           `json:"tap"`
	MAC     net.HardwareAddr `json:"mac"`
	Address netip.Addr       `json:"address,omitzero"` // host-only and nat: the address reserved for the guest
	// Address6 is the guest's by DHCPv6, on a network with IPv6.
	Address6 netip.Addr       `json:"address6,omitzero"`
	Seen     guestwatch.State `json:"seen,omitzero"` // how far the guest has got, and what it uses

	Unguarded bool        `json:"unguarded,omitempty"`
	Dropped   []nft.Count `json:"dropped,omitempty"` // by the port's guard, for each reason of package guard; OpInfo only

	Reach   reach.Policy `json:"reach,omitzero"`
	Refused []nft.Count  `json:"refused,omitempty"` // by that policy, for each reason of package egress; OpInfo only

	// Forwards are those of the request, without one at ::1 where the host has no IPv6 and the
	// same is there at 127.0.0.1, and those of Registration.Forward.
	Forwards []Forwarded `json:"forwards,omitempty"`
	// Sockets are those of Forwards, one for each, for the supervisor that joined, which closes
	// them; else nil. The port of the host is taken as long as any file on it is open.
	Sockets []*os.File `json:"-"`

	// File is the tap's, for the supervisor that joined without files of its own, which
	// closes it; else nil. The tap lives as long as any file on it is open.
	File *os.File `json:"-"`
}

// Info describes a running network.
type Info struct {
	Name      string        `json:"name"`
	Mode      profiles.Mode `json:"mode"`
	Macvtap   bool          `json:"macvtap,omitempty"`
	Bridge    string        `json:"bridge"` // "" with macvtap
	Prefix    netip.Prefix  `json:"prefix,omitzero"`
	Gateway   netip.Addr    `json:"gateway,omitzero"`
	Prefix6   netip.Prefix  `json:"prefix6,omitzero"`
	Gateway6  netip.Addr    `json:"gateway6,omitzero"`
	MTU       int           `json:"mtu"` // bytes
	Uplinks   []string      `json:"uplinks,omitempty"`
	STP       bool          `json:"stp,omitempty"` // the bridge runs STP: ports forward late
	KeeperPID int           `json:"keeper_pid"`
	VMs       []VMInfo      `json:"vms"`
	Leases    []dhcp.Lease  `json:"leases,omitempty"`
	Notes     []string      `json:"notes,omitempty"` // what does not work, as sentences

	// Clerk is what confines the network's clerk; nil where it has none, and of an older keeper.
	Clerk *Confinement `json:"clerk,omitempty"`

	// Dropped is what the network's rules have dropped of all guests' packets, by reason.
	Dropped []nft.Count `json:"dropped,omitempty"`
}

// VMInfo is a VM registered with a network.
type VMInfo struct {
	Name  string `json:"name"`
	Ports []Port `json:"ports"`
}

// Note is what the keeper tells the users of a network's VMs.
type Note = plan.Note

// What a Request can ask for.
const (
	OpJoin   = "join"   // register a VM's ports
	OpRejoin = "rejoin" // register them with a keeper that adopted the network
	OpEnding = "ending" // undo the ports: QEMU uses them no more. It has no answer.
	OpLeave  = "leave"  // undo the ports, and answer how that went
	OpInfo   = "info"   // describe the network

	OpForward   = "forward"   // open the sockets of forwards of one NIC, all or none
	OpUnforward = "unforward" // undo what the keeper does for forwards of one NIC: their sockets are the supervisor's to close
)

// Request is what a supervisor sends.
type Request struct {
	Versions
	Op      string        `json:"op"` // one of the Op constants
	NetNS   string        `json:"netns,omitempty"`
	Network plan.Network  `json:"network,omitzero"`
	VM      string        `json:"vm,omitempty"`
	Ports   []PortRequest `json:"ports,omitempty"`
	Held    []Port        `json:"held,omitempty"` // OpRejoin: the ports that the VM got from a keeper before

	// ID, of OpForward and OpUnforward, comes back as the answer's To; NIC has the Forwards.
	ID       int       `json:"id,omitempty"`
	NIC      int       `json:"nic,omitempty"`
	Forwards []Forward `json:"forwards,omitempty"`
}

// Reply is what the keeper sends: the answer to a Request, with the taps' files in
// the order of Ports, and then the sockets of their Forwards, or news that no supervisor asked
// for.
type Reply struct {
	Versions
	Error *WireError `json:"error,omitempty"`
	Info  *Info      `json:"info,omitempty"`
	Ports []Port     `json:"ports,omitempty"`
	Steps []string   `json:"steps,omitempty"` // what the keeper has done, as commands
	Notes []string   `json:"notes,omitempty"` // Told as sentences, for a supervisor of version 0
	Told  []Note     `json:"told,omitempty"`  // what the user should know

	// Waits is set in what a keeper says before its first word: what it waits for.
	Waits string `json:"waits,omitempty"`

	// More is how many files come in messages of their own: the kernel passes no more than
	// maxRights with one.
	More int `json:"more,omitempty"`

	// To is the ID of the request that this answers, 0 of one without.
	To int `json:"to,omitempty"`

	// Later is set in the answer to OpJoin where news with Settled follow: what the keeper does for
	// the VM's forwards besides their sockets, its Steps, and in Update how each is done.
	Later   bool `json:"later,omitempty"`
	Settled bool `json:"settled,omitempty"`

	// Left is set in the answer to OpLeave.
	Left bool `json:"left,omitempty"`

	// Update is news: the ports as they are now.
	Update []Port `json:"update,omitempty"`

	// Replug is news: the NICs whose guest should see its cable pulled and plugged.
	Replug []int `json:"replug,omitempty"`
}

// For returns the reply as a supervisor that speaks other understands it.
func (r Reply) For(other Versions) Reply {
	r.Versions = Speaks
	if other.Version == 0 {
		r.Notes, r.Told = plan.Sentences(r.Told), nil
	}
	return r
}

// notes are the reply's notes, of whichever version.
func (r Reply) notes() []Note {
	list := r.Told
	for _, text := range r.Notes {
		list = append(list, Note{Text: text})
	}
	return list
}

// Spec is what a keeper reads on stdin when it starts.
type Spec struct {
	Versions
	Network plan.Network `json:"network"`
	Port53  string       `json:"port53,omitempty"` // of dns.Holders, which the keeper may not ask itself

	Clerk *Confinement `json:"clerk,omitempty"` // of ConfinementOf, which the keeper tells

	Starter   int        `json:"starter,omitempty"` // the process that starts the keeper; 0 if it need not live
	AssumeYes bool       `json:"assume_yes,omitempty"`
	Peer      netip.Addr `json:"peer,omitzero"`
}
