package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// client serves one connection until it ends; its end is the end of the VM's registration.
func (k *keeper) client(c *net.UnixConn) {
	defer c.Close()
	vm := ""
	var left error // what the undo of an ending VM met
	for {
		var req request
		files, err := receive(c, &req)
		if err == nil {
			err = req.distribute(files)
		}
		if err != nil {
			closeAll(files)
			k.died(vm)
			return
		}
		switch req.Op {
		case "info":
			info := k.info()
			err = send(c, reply{Info: &info})
		case "ending":
			left = k.leave(vm)
		case "leave":
			// The answer comes after the undo, and the end of the connection after the answer.
			failpoint.Hit("keeper was asked to leave") //nolint:errcheck // as below
			left = errors.Join(left, k.leave(vm))
			send(c, reply{Error: toWire(left), Left: true, Notes: k.drifted()}) //nolint:errcheck // a client that is gone needs no answer
			k.awaitEnd(c, vm)
			return
		case "join", "rejoin":
			if vm != "" {
				err = send(c, reply{Error: toWire(fmt.Errorf("join: this connection is VM %q: %w", vm, host.ErrRefused))})
				break
			}
			serve := k.join
			if req.Op == "rejoin" {
				serve = k.rejoin
			}
			vm, err = k.serveJoin(c, req, serve)
		default:
			err = send(c, reply{Error: toWire(fmt.Errorf("serve: unknown request %q: %w", req.Op, host.ErrRefused))})
		}
		closeAll(files)
		if err != nil {
			k.died(vm)
			return
		}
	}
}

// distribute gives the ports the files that came with the request.
func (r *request) distribute(files []*os.File) error {
	for i := range r.Ports {
		p := &r.Ports[i]
		if p.Queues < 0 || p.Queues > len(files) {
			return fmt.Errorf("receive request: port %d has %d queues, and %d files are left", i, p.Queues, len(files))
		}
		p.Files, files = files[:p.Queues], files[p.Queues:]
	}
	return nil
}

// drifted tells what was no longer as the network was left, once it is undone.
func (k *keeper) drifted() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.drift
}

// endTime bounds how long a supervisor takes for its own files after it left.
const endTime = 5 * time.Second

// awaitEnd waits for the end of a supervisor that left, and removes the files
// that it was killed before removing.
func (k *keeper) awaitEnd(c *net.UnixConn, vm string) {
	c.SetReadDeadline(time.Now().Add(endTime))
	var none request
	if _, err := receive(c, &none); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		k.removeFiles(vm)
	}
}

// died ends the registration of a VM whose supervisor is gone, and removes what
// that can not any more.
func (k *keeper) died(vm string) {
	if err := k.leave(vm); err != nil {
		k.log.Warn("undo ports", "vm", vm, "error", err)
	}
	if vm != "" {
		k.removeFiles(vm)
		return
	}
	k.endIfIdle() // whom it was started for may have changed their mind
}

// removeFiles takes away what a dead supervisor left.
func (k *keeper) removeFiles(vm string) {
	// The kernel closes a dead process's files one by one: the lock may be later
	// than the connection.
	for range 20 {
		place := rundir.VM{RunDir: k.runDir, Name: vm}
		if !place.Left() {
			return
		}
		err := place.Collect()
		if err == nil {
			return
		}
		if !errors.Is(err, lockfile.ErrHeld) {
			k.log.Warn("remove files", "vm", vm, "error", err)
			return
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // a lock tells nobody that it was given up
	}
}

// serveJoin answers a join; it returns the VM's name once it is registered.
func (k *keeper) serveJoin(c *net.UnixConn, req request, serve func(*net.UnixConn, request) (reply, []*os.File, error)) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return "", net.ErrClosed // unanswered: the client starts the next keeper
	}
	rep, files, err := serve(c, req)
	defer closeAll(files)
	if err != nil {
		if len(k.vms) == 0 {
			k.endLocked() // nobody is left to undo it for
		}
		return "", send(c, reply{Error: toWire(err)})
	}
	m := k.vms[req.VM]
	k.watch(req.VM, m)
	k.pinner.look()
	err = send(c, rep, files...)
	go k.push(m) // after the answer: nothing may overtake it
	return req.VM, err
}

func (k *keeper) join(c *net.UnixConn, req request) (reply, []*os.File, error) {
	if m := k.vms[req.VM]; m != nil && m.away {
		k.drop(req.VM) //nolint:errcheck // a VM of that name that did not come back; the journal keeps what is left
	}
	if err := k.check(req); err != nil {
		return reply{}, nil, err
	}
	m := newMember(c)
	done, err := k.connect(req, m)
	if err != nil {
		delete(k.journal.Ports, req.VM)
		k.release(m)
		return reply{}, nil, err
	}
	k.vms[req.VM], k.joined = m, true
	var files []*os.File
	for _, p := range m.ports {
		if f := k.host.TakeTap(p.Tap); f != nil {
			files = append(files, f)
		}
	}
	info := k.briefLocked()
	return reply{Info: &info, Ports: m.ports, Steps: done, Notes: k.notes()}, files, nil
}

// connect decides and makes a VM's ports.
func (k *keeper) connect(req request, m *member) ([]string, error) {
	for _, p := range req.Ports {
		info, err := k.portInfo(req.VM, p, m.ports)
		if err != nil {
			return nil, err
		}
		m.ports = append(m.ports, info)
		if err := k.host.GiveTap(context.TODO(), info.Tap, p.Files); err != nil {
			return nil, err
		}
		port := plan.Port{VM: req.VM, NIC: p.NIC, MAC: p.MAC}
		m.steps = append(m.steps, k.journal.Plan.PortSteps(port)...)
		if p.Trace != nil {
			m.steps = append(m.steps, k.journal.Plan.TraceSteps(port, info.Address, p.Trace)...)
		}
	}
	k.journal.Ports[req.VM] = m.steps
	err := k.journal.Write(k.paths.journal())
	if err == nil {
		err = failpoint.Hit("keeper wrote the ports to the journal")
	}
	if err != nil {
		return nil, err
	}
	var done []string
	err = step.Apply(context.TODO(), k.host.Kernel(), m.steps, func(s step.Step) { done = append(done, s.String()) })
	return done, err
}

// release gives the addresses of a VM's NICs back.
func (k *keeper) release(m *member) {
	for _, p := range m.ports {
		if p.Address.IsValid() {
			k.dhcp.Release(p.MAC)
		}
	}
}

func (k *keeper) notes() []string { return slices.Concat(k.texts, k.journal.Plan.Notes) }

// check refuses a VM that wants a different network, or what another VM has.
func (k *keeper) check(req request) error {
	n, have := req.Network, k.journal.Plan
	refuse := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, host.ErrRefused)...)
	}
	if ns, err := host.NetNS(); err != nil || ns != req.NetNS {
		return refuse("network %q runs in another network namespace (%s): use another --run-dir here", n.Name, ns)
	}
	if _, ok := k.vms[req.VM]; ok {
		return refuse("VM %q is on network %q already", req.VM, n.Name)
	}
	others := k.names()
	switch {
	case n.Mode != have.Network.Mode:
		return refuse("VM %q wants network %q in mode %s, VMs %v run it in mode %s", req.VM, n.Name, n.Mode, others, have.Network.Mode)
	case n.Macvtap != have.Network.Macvtap:
		return refuse("VM %q wants network %q %s macvtap, VMs %v run it %s", req.VM, n.Name, with(n.Macvtap), others, with(have.Network.Macvtap))
	case n.Subnet.IsValid() && n.Subnet != have.Prefix:
		return refuse("VM %q wants network %q with subnet %s, VMs %v run it with %s", req.VM, n.Name, n.Subnet, others, have.Prefix)
	case n.PXE.File != "" && n.PXE != have.Network.PXE:
		return refuse("VM %q wants network %q with pxe file %q, VMs %v run it with %q", req.VM, n.Name, n.PXE.File, others, have.Network.PXE.File)
	case n.MTU != 0 && n.MTU != have.MTU:
		return refuse("VM %q wants network %q with mtu %d, VMs %v run it with %d", req.VM, n.Name, n.MTU, others, have.MTU)
	case n.Uplink != "" && n.Uplink != have.Network.Uplink:
		return refuse("VM %q wants network %q with uplink %s, VMs %v run it with %q", req.VM, n.Name, n.Uplink, others, have.Network.Uplink)
	}
	return nil
}

func with(it bool) string {
	if it {
		return "with"
	}
	return "without"
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
	info := PortInfo{NIC: r.NIC, Tap: host.TapName(vm, r.NIC), MAC: r.MAC}
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
		return info, fmt.Errorf("VM %q wants MAC %s, which VM %q has: %w", vm, r.MAC, other, host.ErrRefused)
	}
	planned := k.journal.Plan
	if !planned.Prefix.IsValid() {
		return info, nil
	}
	if r.Address.IsValid() && !plan.Usable(planned.Prefix, r.Address) {
		return info, fmt.Errorf("VM %q wants address %s, which is no guest address of %s (gateway %s): %w",
			vm, r.Address, planned.Prefix, planned.Gateway, host.ErrRefused)
	}
	same := func(p PortInfo) bool { return r.Address.IsValid() && p.Address == r.Address }
	if other := holder(same); other != "" {
		return info, fmt.Errorf("VM %q wants address %s, which VM %q has: %w", vm, r.Address, other, host.ErrRefused)
	}
	var err error
	if info.Address, err = k.dhcp.Reserve(r.MAC, r.Address, vm); err != nil {
		return PortInfo{}, fmt.Errorf("VM %q: %w: %w", vm, host.ErrRefused, err)
	}
	return info, nil
}

// leave undoes a VM's ports, and the network with the last.
func (k *keeper) leave(vm string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.vms[vm]; !ok || k.over {
		return k.err
	}
	if len(k.vms) == 1 {
		k.vms[vm].close()
		delete(k.vms, vm)
		k.endLocked() // its ports are in the journal still, and undone first
		return k.err
	}
	return k.drop(vm)
}

// drop undoes a VM's ports.
func (k *keeper) drop(vm string) error {
	m := k.vms[vm]
	delete(k.vms, vm)
	m.close()
	k.release(m)
	k.pinner.look()
	if err := step.Undo(context.TODO(), k.host.Kernel(), m.steps); err != nil {
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

// infoLocked tells of the network with all its VMs and leases.
func (k *keeper) infoLocked() Info {
	info := k.briefLocked()
	for name, m := range k.vms {
		info.VMs = append(info.VMs, VMInfo{Name: name, Ports: slices.Clone(m.ports)})
	}
	if k.dhcp != nil {
		info.Leases = k.dhcp.Leases()
	}
	slices.SortFunc(info.VMs, func(a, b VMInfo) int { return cmp.Compare(a.Name, b.Name) })
	return info
}

// briefLocked is what a VM that joins is told: no more the more there are.
func (k *keeper) briefLocked() Info {
	p := k.journal.Plan
	return Info{
		Name: p.Network.Name, Mode: p.Network.Mode, Macvtap: p.Network.Macvtap, Bridge: p.Bridge, Prefix: p.Prefix, Gateway: p.Gateway,
		MTU: p.MTU, Uplinks: p.Uplinks, STP: p.Waits, KeeperPID: os.Getpid(), VMs: []VMInfo{},
		Notes: slices.Concat(k.texts, p.Notes),
	}
}
