package keeper

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/reach"
)

// What a supervisor sends at most. The largest VM has 15 NICs of 8 queues.
const (
	maxPorts  = 16
	maxQueues = 8
	maxNIC    = 15 // one digit of a tap's name
	maxTraced = 64
	maxText   = 4096 // bytes
)

// Validate refuses what no supervisor sends. It is the one place at which a keeper checks a
// request: names become paths, links and tables, so that they must match the pattern
// of profiles. Whether something suits the network as it runs, package server knows. The
// error is host.ErrRefused.
func (r Request) Validate() error {
	switch r.Op {
	case OpJoin, OpRejoin:
	case OpForward, OpUnforward:
		return validForwards(r.VM, []PortRequest{{NIC: r.NIC, Forwards: r.Forwards}})
	default:
		return nil // the others only concern the VM that the connection has registered
	}
	if !profiles.ValidName(r.VM) {
		return badName("VM", r.VM)
	}
	if err := validNetwork(r.Network); err != nil {
		return err
	}
	if len(r.NetNS) > maxText {
		return host.Refuse("VM %q: the name of the network namespace has %d bytes", r.VM, len(r.NetNS))
	}
	ports := r.Held
	if r.Op == OpJoin {
		ports = asked(r.Ports)
	}
	if err := validPorts(r.VM, ports); err != nil {
		return err
	}
	if r.Op == OpRejoin {
		return r.validHeld()
	}
	for _, p := range r.Ports {
		if err := validReach(r, p); err != nil {
			return err
		}
		if len(p.Trace) > maxTraced {
			return host.Refuse("VM %q, nic %d: %d traced addresses, allowed: at most %d", r.VM, p.NIC, len(p.Trace), maxTraced)
		}
	}
	return validForwards(r.VM, r.Ports)
}

// validReach refuses a policy that the mode has no rules for, or that needs the port's guard.
func validReach(r Request, p PortRequest) error {
	refuse := func(format string, args ...any) error {
		return host.Refuse("VM %q, nic %d: %w", r.VM, p.NIC, fmt.Errorf(format, args...))
	}
	mode := r.Network.Mode
	switch what := p.Reach; {
	case what.Isolated && mode == profiles.Bridge:
		return refuse("isolated in mode %s; allowed in: private, host-only, nat", mode)
	case what.NoHost && !mode.HasSubnet():
		return refuse("host = \"none\" in mode %s; allowed in: host-only, nat", mode)
	case what.NoLAN && mode != profiles.NAT:
		return refuse("lan = false in mode %s; allowed in: nat", mode)
	case what.Listed && mode != profiles.NAT:
		return refuse("egress in mode %s; allowed in: nat", mode)
	case len(what.Entries) > reach.Most || what.Text() > reach.MostText || len(what.Entries) > 0 && !what.Listed:
		return refuse("a list of %d entries and %d bytes, allowed: %d and %d", len(what.Entries), what.Text(), reach.Most, reach.MostText)
	case !what.IsZero() && p.Unguarded:
		return refuse("%s without a guard, which holds the guest to the MAC that rules tell it by: leave guard out", what.Keys()[0])
	}
	return nil
}

// asked returns the ports that the requests are for.
func asked(requests []PortRequest) []Port {
	var ports []Port
	for _, p := range requests {
		ports = append(ports, Port{NIC: p.NIC, MAC: p.MAC, Address: p.Address, Address6: p.Address6})
	}
	return ports
}

// forwardsOf are requests for the forwards that ports have.
func forwardsOf(ports []Port) []PortRequest {
	var requests []PortRequest
	for _, p := range ports {
		r := PortRequest{NIC: p.NIC}
		for _, f := range p.Forwards {
			r.Forwards = append(r.Forwards, f.Forward)
		}
		requests = append(requests, r)
	}
	return requests
}

// validPorts checks the ports of a VM against the limits and each other.
func validPorts(vm string, ports []Port) error {
	if len(ports) == 0 || len(ports) > maxPorts {
		return host.Refuse("VM %q: %d NICs, allowed: 1 to %d", vm, len(ports), maxPorts)
	}
	for i, p := range ports {
		refuse := func(format string, args ...any) error {
			return host.Refuse("VM %q, nic %d: %w", vm, p.NIC, fmt.Errorf(format, args...))
		}
		before := ports[:i]
		switch {
		case p.NIC < 0 || p.NIC > maxNIC:
			return refuse("it has no such number, allowed: 0 to %d", maxNIC)
		case slices.ContainsFunc(before, func(o Port) bool { return o.NIC == p.NIC }):
			return refuse("named twice")
		case !validMAC(p.MAC):
			return refuse("MAC %.80q, allowed: a unicast address of 6 bytes", p.MAC)
		case slices.ContainsFunc(before, func(o Port) bool { return slices.Equal(o.MAC, p.MAC) }):
			return refuse("MAC %s, which another NIC has", p.MAC)
		case p.Address.IsValid() && !p.Address.Is4():
			return refuse("address %s, allowed: an IPv4 address", p.Address)
		case p.Address6.IsValid() && (!p.Address6.Is6() || p.Address6.Zone() != ""):
			return refuse("address %.80s, allowed: an IPv6 address", p.Address6)
		}
	}
	return nil
}

// validHeld checks what a VM says of the ports that a keeper gave it.
func (r Request) validHeld() error {
	for _, p := range r.Held {
		if tap := host.TapName(r.VM, p.NIC); p.Tap != tap {
			return host.Refuse("VM %q, nic %d: tap %.80q, and it has %s", r.VM, p.NIC, p.Tap, tap)
		}
		if n := len(p.Seen.Addresses); n > maxTraced {
			return host.Refuse("VM %q, nic %d: %d addresses, allowed: at most %d", r.VM, p.NIC, n, maxTraced)
		}
	}
	return validForwards(r.VM, forwardsOf(r.Held))
}

// validMAC reports whether a guest may have the MAC: no group bit (IEEE 802, 8.2.2), and not
// all zero.
func validMAC(mac net.HardwareAddr) bool {
	return len(mac) == 6 && mac[0]&1 == 0 && slices.ContainsFunc(mac, func(b byte) bool { return b != 0 })
}

func badName(what, name string) error {
	return host.Refuse("%s %.80q: allowed are names that match %s", what, name, profiles.NamePattern)
}

// validNetwork refuses a network that no profile can ask for. MTU is package plan's to check.
func validNetwork(n Network) error {
	switch {
	case !profiles.ValidName(n.Name):
		return badName("network", n.Name)
	case !n.Mode.NeedsNetwork():
		return host.Refuse("network %q: mode %.80q makes no network: use private, host-only, nat or bridge", n.Name, n.Mode)
	case n.Uplink != "" && !profiles.ValidLink(n.Uplink):
		return host.Refuse("network %q: uplink %.200q is no name of a link", n.Name, n.Uplink)
	case n.Subnet != netip.Prefix{} && (!n.Mode.HasSubnet() || !profiles.ValidSubnet(n.Subnet)):
		return host.Refuse("network %q: subnet %s: allowed in host-only and nat, private (RFC 1918), /20 to /29", n.Name, n.Subnet)
	case n.Macvtap && n.Mode != profiles.Bridge:
		return host.Refuse("network %q: macvtap in mode %s; allowed in: bridge", n.Name, n.Mode)
	case n.Metadata && n.Mode != profiles.NAT:
		return host.Refuse("network %q: metadata in mode %s; allowed in: nat", n.Name, n.Mode)
	}
	return errors.Join(validIPv6(n), validPXE(n))
}

// validIPv6 refuses a network with IPv6 that no profile can ask for.
func validIPv6(n Network) error {
	switch {
	case n.IPv6 && !n.Mode.HasSubnet():
		return host.Refuse("network %q: ipv6 in mode %s; allowed in: host-only, nat", n.Name, n.Mode)
	case n.Subnet6 != netip.Prefix{} && (!n.IPv6 || !profiles.ValidSubnet6(n.Subnet6)):
		return host.Refuse("network %q: subnet6 %s: allowed with ipv6, unique local (RFC 4193), /64", n.Name, n.Subnet6)
	}
	return nil
}

// validPXE refuses a boot file that no profile can ask for.
func validPXE(n Network) error {
	server := n.PXE.Server
	switch {
	case n.PXE.File != "" && (!n.Mode.HasSubnet() || !profiles.ValidBootFile(n.PXE.File)):
		return host.Refuse("network %q: pxe file %.200q: allowed in host-only and nat, 1 to 127 printable characters", n.Name, n.PXE.File)
	case server.IsValid() && (n.PXE.File == "" || !server.Is4()):
		return host.Refuse("network %q: pxe server %s: allowed beside a file, an IPv4 address", n.Name, server)
	}
	return nil
}

// Validate refuses a Spec that no supervisor writes; see Request.Validate.
func (s Spec) Validate() error {
	if len(s.Port53) > maxText || s.Starter < 0 {
		return host.Refuse("network %.80q: a start that no qnet asks for", s.Network.Name)
	}
	return validNetwork(s.Network)
}

// ValidDirs refuses directories that are no absolute paths: a keeper works in "/".
func ValidDirs(dirs ...string) error {
	for _, d := range dirs {
		if !filepath.IsAbs(d) {
			return host.Refuse("directory %.200q: allowed is an absolute path", d)
		}
	}
	return nil
}

// Distribute gives the ports the files that came with the request. The error is
// host.ErrRefused where their number is not the one that the ports name.
func (r *Request) Distribute(files []*os.File) error {
	left := files
	for i := range r.Ports {
		p := &r.Ports[i]
		if p.Queues < 0 || p.Queues > maxQueues || p.Queues > len(left) {
			return host.Refuse("VM %.80q, nic %d: %d queues, and %d files are left; allowed: 0 to %d, with a file for each",
				r.VM, p.NIC, p.Queues, len(left), maxQueues)
		}
		p.Files, left = left[:p.Queues], left[p.Queues:]
	}
	if len(left) > 0 {
		return host.Refuse("VM %.80q: %d files came, and %d of them are no port's", r.VM, len(files), len(left))
	}
	return nil
}
