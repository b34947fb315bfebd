package keeper

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/netsetup"
)

// client serves one connection until it ends; its end is the end of the VM's registration.
func (k *keeper) client(c *net.UnixConn) {
	defer c.Close()
	vm := ""
	for {
		var req request
		files, err := receive(c, &req)
		closeAll(files)
		if err != nil {
			k.leave(vm) //nolint:errcheck // nobody is left to tell
			return
		}
		switch req.Op {
		case "info":
			info := k.info()
			err = send(c, reply{Info: &info})
		case "leave":
			// The answer comes after the undo, and the end of the connection after the answer.
			send(c, reply{Error: toWire(k.leave(vm))}) //nolint:errcheck // a client that is gone needs no answer
			return
		case "join":
			if vm != "" {
				err = send(c, reply{Error: toWire(fmt.Errorf("join: this connection is VM %q: %w", vm, netsetup.ErrRefused))})
				break
			}
			vm, err = k.serveJoin(c, req)
		default:
			err = send(c, reply{Error: toWire(fmt.Errorf("serve: unknown request %q: %w", req.Op, netsetup.ErrRefused))})
		}
		if err != nil {
			k.leave(vm) //nolint:errcheck // nobody is left to tell
			return
		}
	}
}

// serveJoin answers a join; it returns the VM's name once it is registered.
func (k *keeper) serveJoin(c *net.UnixConn, req request) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return "", net.ErrClosed // unanswered: the client starts the next keeper
	}
	rep, files, err := k.join(req)
	defer closeAll(files)
	if err != nil {
		if len(k.vms) == 0 {
			k.endLocked() // nobody is left to undo it for
		}
		return "", send(c, reply{Error: toWire(err)})
	}
	if err := send(c, rep, files...); err != nil {
		return req.VM, err
	}
	return req.VM, nil
}

func (k *keeper) join(req request) (reply, []*os.File, error) {
	if err := k.check(req); err != nil {
		return reply{}, nil, err
	}
	m := &member{}
	for _, p := range req.Ports {
		info, err := k.portInfo(req.VM, p, m.ports)
		if err != nil {
			return reply{}, nil, err
		}
		m.ports = append(m.ports, info)
		m.steps = append(m.steps, k.journal.Plan.PortSteps(netsetup.Port{VM: req.VM, NIC: p.NIC})...)
	}
	k.journal.Ports[req.VM] = m.steps
	if err := k.journal.Write(k.paths.journal()); err != nil {
		delete(k.journal.Ports, req.VM)
		return reply{}, nil, err
	}
	var done []string
	if err := netsetup.Apply(k.host, m.steps, func(s netsetup.Step) { done = append(done, s.String()) }); err != nil {
		delete(k.journal.Ports, req.VM)
		return reply{}, nil, err
	}
	k.vms[req.VM], k.joined = m, true
	var files []*os.File
	for _, p := range m.ports {
		files = append(files, k.host.TakeTap(p.Tap))
	}
	info := k.infoLocked()
	return reply{Info: &info, Ports: m.ports, Steps: done, Notes: k.notes()}, files, nil
}

func (k *keeper) notes() []string {
	if !k.journal.Plan.Waits {
		return nil
	}
	return []string{fmt.Sprintf("bridge %s runs STP: a new port forwards nothing for its forward delay, often 30 s", k.journal.Plan.Bridge)}
}

// check refuses a VM that wants a different network, or what another VM has.
func (k *keeper) check(req request) error {
	n, have := req.Network, k.journal.Plan
	refuse := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, netsetup.ErrRefused)...)
	}
	if ns, err := netsetup.NetNS(); err != nil || ns != req.NetNS {
		return refuse("network %q runs in another network namespace (%s): use another --run-dir here", n.Name, ns)
	}
	if _, ok := k.vms[req.VM]; ok {
		return refuse("VM %q is on network %q already", req.VM, n.Name)
	}
	others := k.names()
	switch {
	case n.Mode != have.Network.Mode:
		return refuse("VM %q wants network %q in mode %s, VMs %v run it in mode %s", req.VM, n.Name, n.Mode, others, have.Network.Mode)
	case n.Subnet.IsValid() && n.Subnet != have.Prefix:
		return refuse("VM %q wants network %q with subnet %s, VMs %v run it with %s", req.VM, n.Name, n.Subnet, others, have.Prefix)
	case n.Uplink != "" && n.Uplink != have.Network.Uplink:
		return refuse("VM %q wants network %q with uplink %s, VMs %v run it with %q", req.VM, n.Name, n.Uplink, others, have.Network.Uplink)
	}
	return nil
}

func (k *keeper) names() []string {
	var names []string
	for name := range k.vms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// portInfo decides a port's name and address and refuses a MAC or an address in use.
func (k *keeper) portInfo(vm string, r PortRequest, sofar []PortInfo) (PortInfo, error) {
	info := PortInfo{NIC: r.NIC, Tap: netsetup.TapName(vm, r.NIC), MAC: r.MAC}
	holder := func(same func(PortInfo) bool) string {
		if slices.ContainsFunc(sofar, same) {
			return vm
		}
		for name, m := range k.vms {
			if slices.ContainsFunc(m.ports, same) {
				return name
			}
		}
		return ""
	}
	if other := holder(func(p PortInfo) bool { return p.MAC.String() == r.MAC.String() }); other != "" {
		return info, fmt.Errorf("VM %q wants MAC %s, which VM %q has: %w", vm, r.MAC, other, netsetup.ErrRefused)
	}
	prefix := k.journal.Plan.Prefix
	if !prefix.IsValid() {
		return info, nil
	}
	has := func(a netip.Addr) string { return holder(func(p PortInfo) bool { return p.Address == a }) }
	if !r.Address.IsValid() {
		info.Address = netsetup.GuestAddress(prefix, r.MAC, func(a netip.Addr) bool { return has(a) != "" })
		if !info.Address.IsValid() {
			return info, fmt.Errorf("VM %q: every address of %s is taken: %w", vm, prefix, netsetup.ErrRefused)
		}
		return info, nil
	}
	info.Address = r.Address
	if other := has(r.Address); other != "" {
		return info, fmt.Errorf("VM %q wants address %s, which VM %q has: %w", vm, r.Address, other, netsetup.ErrRefused)
	}
	if !netsetup.Usable(prefix, r.Address) {
		return info, fmt.Errorf("VM %q wants address %s, which is no guest address of %s (gateway %s): %w",
			vm, r.Address, prefix, k.journal.Plan.Gateway, netsetup.ErrRefused)
	}
	return info, nil
}

// leave undoes a VM's ports, and the network with the last.
func (k *keeper) leave(vm string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.vms[vm]
	if !ok || k.over {
		return k.err
	}
	delete(k.vms, vm)
	if len(k.vms) == 0 {
		k.endLocked() // its ports are in the journal still, and undone first
		return k.err
	}
	if err := netsetup.Undo(k.host, m.steps); err != nil {
		return err // the journal still has them, for the network's end
	}
	delete(k.journal.Ports, vm)
	return k.journal.Write(k.paths.journal())
}

func (k *keeper) info() Info {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.infoLocked()
}

func (k *keeper) infoLocked() Info {
	p := k.journal.Plan
	info := Info{
		Name: p.Network.Name, Mode: p.Network.Mode, Bridge: p.Bridge, Prefix: p.Prefix, Gateway: p.Gateway,
		Uplinks: p.Uplinks, KeeperPID: os.Getpid(), VMs: []VMInfo{},
	}
	for name, m := range k.vms {
		info.VMs = append(info.VMs, VMInfo{Name: name, Ports: m.ports})
	}
	slices.SortFunc(info.VMs, func(a, b VMInfo) int { return cmp.Compare(a.Name, b.Name) })
	return info
}
