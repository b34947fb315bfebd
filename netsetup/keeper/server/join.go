package server

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/onlink"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
	"github.com/qnet-vm/qnet/netsetup/subnet"
	"github.com/qnet-vm/qnet/netsetup/traced"
)

// register answers OpJoin and OpRejoin; it returns the VM's name once the VM is
// registered. Where the network is being undone it returns net.ErrClosed and sends no
// answer: the supervisor starts the next keeper.
func (c *connection) register(ctx context.Context, req keeper.Request) (string, error) {
	if err := c.changes.lock(ctx); err != nil {
		return "", err
	}
	if c.over {
		c.changes.unlock()
		return "", net.ErrClosed
	}
	rep, files, err := c.admit(ctx, req)
	defer keeper.CloseAll(files)
	if err != nil {
		idle := len(c.vms) == 0 // no VM is left to keep the network for
		c.over = idle
		c.changes.unlock()
		if idle {
			c.finish() //nolint:errcheck // the supervisor gets the reason of the refusal
		}
		return "", c.refuse(req, err)
	}
	defer c.changes.unlock()
	m := c.vms[req.VM]
	c.watch(ctx, req.VM, m) // before the answer: then the guest runs
	err = c.send(req, rep, files...)
	c.startWriter(ctx, m)
	c.upkeep.GuestsChanged()
	if err == nil {
		c.settle(ctx, req, m)
	}
	return req.VM, err
}

// admit registers the VM, or refuses it. server.changes is held.
func (c *connection) admit(ctx context.Context, req keeper.Request) (keeper.Reply, []*os.File, error) {
	if err := keeper.Speaks.Check(req.Versions, c.place.Name, c.names()); err != nil {
		return keeper.Reply{}, nil, err
	}
	if req.Op == keeper.OpRejoin {
		return c.rejoin(ctx, req)
	}
	return c.join(ctx, req)
}

// put registers the member, and returns what a VM that joins gets to know.
func (c *connection) put(vm string, m *member) keeper.Reply {
	c.mu.Lock()
	c.vms[vm] = m
	notes := slices.Clone(c.notes) // those from now on are the member's news
	c.mu.Unlock()
	info := c.brief()
	for _, text := range c.planNotes {
		notes = append(notes, c.about(text))
	}
	return keeper.Reply{Info: &info, Ports: slices.Clone(m.ports), Told: notes}
}

func (c *connection) join(ctx context.Context, req keeper.Request) (keeper.Reply, []*os.File, error) {
	if m := c.vms[req.VM]; m != nil && m.away {
		c.drop(ctx, req.VM) //nolint:errcheck // a VM of that name that did not come back; the journal keeps what is left
	}
	if err := c.upkeep.FollowNames(ctx); err != nil {
		return keeper.Reply{}, nil, err
	}
	if err := c.check(ctx, req); err != nil {
		return keeper.Reply{}, nil, err
	}
	m := newMember(c.conn.UnixConn, req.Versions)
	forwards, sockets, err := c.listen(req.Ports)
	if err != nil {
		return keeper.Reply{}, nil, err
	}
	done, err := c.connect(ctx, req, m)
	if err != nil {
		delete(c.journal.Ports, req.VM)
		c.release(m)
		keeper.CloseAll(sockets)
		return keeper.Reply{}, nil, err
	}
	c.joined = true
	for i := range forwards {
		m.ports[i].Forwards = forwards[i]
	}
	var files []*os.File
	for _, p := range m.ports {
		if f := c.host.TakeTap(p.Tap); f != nil {
			files = append(files, f)
		}
	}
	rep := c.put(req.VM, m)
	rep.Steps, rep.Later = done, len(sockets) > 0
	return rep, append(files, sockets...), nil
}

// connect decides and makes a VM's ports.
func (s *server) connect(ctx context.Context, req keeper.Request, m *member) ([]string, error) {
	for _, p := range req.Ports {
		info, err := s.portInfo(req.VM, p, m.ports)
		if err != nil {
			return nil, err
		}
		m.ports = append(m.ports, info)
		if err := s.host.GiveTap(ctx, info.Tap, p.Files); err != nil {
			return nil, err
		}
	}
	s.limit(m.ports)
	for i, p := range req.Ports {
		info := m.ports[i]
		port := plan.NIC{VM: req.VM, Index: p.NIC, MAC: p.MAC, Addresses: addressesOf(m.ports), Addresses6: s.own6(m.ports), Unguarded: p.Unguarded, Reach: p.Reach}
		if p.Reach.NoLAN {
			var err error
			if port.OnLink, err = onlink.Read(); err != nil {
				return nil, err
			}
		}
		m.steps = append(m.steps, s.journal.Plan.PortSteps(port)...)
		if p.Trace != nil {
			m.steps = append(m.steps, traced.Steps(info.Tap, host.PortMark(s.place.Name, req.VM, p.NIC), info.Address, p.Trace)...)
		}
	}
	s.journal.Ports[req.VM] = m.steps
	err := s.journal.Write(s.place.Journal())
	if err == nil {
		err = failpoint.Hit("keeper wrote the ports to the journal")
	}
	if err != nil {
		return nil, err
	}
	var done []string
	err = apply.Do(ctx, s.host.Kernel(), m.steps, func(did step.Step) { done = append(done, did.String()) })
	return done, err
}

// addressesOf are the addresses reserved for the ports. A guest with two NICs on a network
// sends from either by the address of the other.
func addressesOf(ports []keeper.Port) []netip.Addr {
	var list []netip.Addr
	for _, p := range ports {
		if p.Address.IsValid() {
			list = append(list, p.Address)
		}
	}
	return list
}

// release gives the addresses of a VM's NICs back.
func (s *server) release(m *member) {
	for _, p := range m.ports {
		if p.Address.IsValid() {
			s.dhcp.Release(p.MAC)
			s.clerk.Release(p.MAC)
			s.unname(p.MAC)
		}
	}
}

// check refuses a VM that wants a different network, or what another VM has.
func (s *server) check(ctx context.Context, req keeper.Request) error {
	n, have := req.Network, s.journal.Plan
	if ns, err := host.NetNS(); err != nil || ns != req.NetNS {
		return host.Refuse("network %q runs in another network namespace (%s): use another --run-dir here", n.Name, ns)
	}
	if _, ok := s.vms[req.VM]; ok {
		return host.Refuse("VM %q is on network %q already", req.VM, n.Name)
	}
	others := s.names()
	uplink, err := s.journal.Calls(ctx, s.host.Kernel(), n.Uplink)
	if err != nil {
		return err
	}
	switch {
	case n.Mode != have.Network.Mode:
		return host.Refuse("VM %q wants network %q in mode %s, VMs %v run it in mode %s", req.VM, n.Name, n.Mode, others, have.Network.Mode)
	case n.Macvtap != have.Network.Macvtap:
		return host.Refuse("VM %q wants network %q %s macvtap, VMs %v run it %s", req.VM, n.Name, with(n.Macvtap), others, with(have.Network.Macvtap))
	case n.Subnet.IsValid() && n.Subnet != have.Prefix:
		return host.Refuse("VM %q wants network %q with subnet %s, VMs %v run it with %s", req.VM, n.Name, n.Subnet, others, have.Prefix)
	case n.PXE.File != "" && n.PXE != have.Network.PXE:
		return host.Refuse("VM %q wants network %q with pxe file %q, VMs %v run it with %q", req.VM, n.Name, n.PXE.File, others, have.Network.PXE.File)
	case n.MTU != 0 && n.MTU != have.MTU:
		return host.Refuse("VM %q wants network %q with mtu %d, VMs %v run it with %d", req.VM, n.Name, n.MTU, others, have.MTU)
	case n.Metadata != have.Network.Metadata:
		return host.Refuse("VM %q wants network %q %s metadata, VMs %v run it %s", req.VM, n.Name, with(n.Metadata), others, with(have.Network.Metadata))
	case n.Uplink != "" && !uplink:
		return host.Refuse("VM %q wants network %q with uplink %s, VMs %v run it with %q", req.VM, n.Name, n.Uplink, others, have.Network.Uplink)
	}
	return s.checkIPv6(req.VM, n, others)
}

func with(it bool) string {
	if it {
		return "with"
	}
	return "without"
}

func (s *server) names() []string {
	var names []string
	for name := range s.vms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// portInfo decides a port's name and address and refuses a MAC or an address in use.
func (s *server) portInfo(vm string, r keeper.PortRequest, sofar []keeper.Port) (keeper.Port, error) {
	info := keeper.Port{NIC: r.NIC, Tap: host.TapName(vm, r.NIC), MAC: r.MAC, Address: r.Address, Unguarded: r.Unguarded, Reach: r.Reach}
	err := s.fits(vm, info, sofar)
	if err != nil || !s.journal.Plan.Prefix.IsValid() {
		return info, err
	}
	if info.Address, err = s.dhcp.Reserve(r.MAC, r.Address, vm); err != nil {
		return keeper.Port{}, host.Refuse("VM %q: %w", vm, err)
	}
	info.Address6, err = s.address6(vm, r.Address6, info.Address, sofar)
	if err != nil {
		s.dhcp.Release(r.MAC)
		return keeper.Port{}, err
	}
	s.clerk.Reserve(r.MAC, info.Address, info.Address6, vm)
	return info, nil
}

// fits refuses a port whose MAC or address the network has no room for.
func (s *server) fits(vm string, p keeper.Port, sofar []keeper.Port) error {
	planned := s.journal.Plan
	if other := s.holder(vm, sofar, func(o keeper.Port) bool { return slices.Equal(o.MAC, p.MAC) }); other != "" {
		return host.Refuse("VM %q wants MAC %s, which VM %q has", vm, p.MAC, other)
	}
	if bridge, ok := step.Find[step.AddBridge](planned.Steps); ok && slices.Equal(bridge.MAC, p.MAC) {
		return host.Refuse("VM %q wants MAC %s, which the host's bridge %s has", vm, p.MAC, bridge.Name)
	}
	if !p.Address.IsValid() {
		return nil
	}
	if !planned.Prefix.IsValid() {
		return host.Refuse("VM %q wants address %s, but in mode %s qnet gives no address", vm, p.Address, planned.Network.Mode)
	}
	if !subnet.Usable(planned.Prefix, p.Address) {
		return host.Refuse("VM %q wants address %s, which is no guest address of %s (gateway %s)",
			vm, p.Address, planned.Prefix, planned.Gateway)
	}
	if other := s.holder(vm, sofar, func(o keeper.Port) bool { return o.Address == p.Address }); other != "" {
		return host.Refuse("VM %q wants address %s, which VM %q has", vm, p.Address, other)
	}
	return nil
}

// holder is the VM that has a port of which same is true, "" if none has. vm is the
// one that joins, sofar its ports.
func (s *server) holder(vm string, sofar []keeper.Port, same func(keeper.Port) bool) string {
	if slices.ContainsFunc(sofar, same) {
		return vm
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, m := range s.vms {
		if slices.ContainsFunc(m.ports, same) {
			return name
		}
	}
	return ""
}
