package server

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/ports"
)

const dnsPort = 53

// listen opens the sockets of all forwards of a VM that joins, or of none: those of its first
// port come first. It returns the forwards of each port.
func (c *connection) listen(requests []keeper.PortRequest) (made [][]keeper.Forwarded, sockets []*os.File, err error) {
	for _, p := range requests {
		forwards, files, err := c.openPorts(p.NIC, p.Forwards)
		if err != nil {
			keeper.CloseAll(sockets)
			return nil, nil, err
		}
		made, sockets = append(made, forwards), append(sockets, files...)
	}
	return made, sockets, nil
}

// openPorts opens the sockets of forwards of one NIC, all or none. It leaves out what
// forward.ListenAll does.
func (c *connection) openPorts(nic int, asked []keeper.Forward) (made []keeper.Forwarded, files []*os.File, err error) {
	for _, f := range asked {
		if err := c.mayForward(f); err != nil {
			return nil, nil, &keeper.ForwardError{NIC: nic, Forward: f, Err: err}
		}
	}
	all, err := forward.ListenAll(asked)
	if failed, ok := errors.AsType[*forward.Error](err); ok {
		return nil, nil, &keeper.ForwardError{NIC: nic, Forward: failed.Forward, Err: c.notBound(failed)}
	}
	if err != nil {
		return nil, nil, err
	}
	for i, f := range asked {
		if all[i] != nil {
			made, files = append(made, keeper.Forwarded{Forward: f, How: keeper.ByRelay}), append(files, all[i])
		}
	}
	return made, files, nil
}

// mayForward refuses a forward that the network cannot have, or the caller.
func (c *connection) mayForward(f keeper.Forward) error {
	n := c.journal.Plan.Network
	switch {
	case n.Macvtap:
		return host.Refuse("the host and a guest by macvtap do not reach each other: leave macvtap out")
	case n.Mode == profiles.Private:
		return host.Refuse(`the host does not reach guests in mode private: use "host-only", "nat" or "bridge"`)
	}
	return forward.MayBind(f.Port, c.conn.UID())
}

// notBound words why a forward's socket could not be bound. Who has a taken port, the supervisor
// finds out.
func (c *connection) notBound(failed *forward.Error) error {
	gateway := c.journal.Plan.Gateway
	switch f := failed.Forward; {
	case errors.Is(failed, unix.EADDRINUSE) && f.Port == dnsPort && gateway.IsValid() && f.Meets(keeper.Forward{Proto: f.Proto, Address: gateway, Port: dnsPort}):
		return host.Refuse("port 53 at %s is qnet's own, for names: forward it at another address alone, such as 127.0.0.1", gateway)
	case errors.Is(failed, unix.EADDRINUSE):
		return host.OfKind(unix.EADDRINUSE, "%w", host.Refuse("%s port %d is taken", f.Proto, f.Port))
	case errors.Is(failed, unix.EADDRNOTAVAIL):
		return host.OfKind(unix.EADDRNOTAVAIL, "%w", failed.NoAddress())
	}
	return failed.Err
}

// forward answers OpForward.
func (c *connection) forward(ctx context.Context, req keeper.Request) error {
	all, files, err := c.addForwards(ctx, req)
	defer keeper.CloseAll(files)
	var notes []keeper.Note
	if err == nil && c.changes.lock(ctx) == nil {
		notes = c.barriers(ctx, req.Forwards)
		c.changes.unlock()
	}
	return c.send(req, keeper.Reply{To: req.ID, Error: keeper.ToWire(err), Ports: all, Told: notes}, files...)
}

// unforward answers OpUnforward.
func (c *connection) unforward(ctx context.Context, req keeper.Request) error {
	all, err := c.removeForwards(ctx, req)
	return c.send(req, keeper.Reply{To: req.ID, Error: keeper.ToWire(err), Ports: all})
}

// barriers tell of other programs that keep other machines from the forwards. server.changes is
// held.
func (s *server) barriers(ctx context.Context, forwards []keeper.Forward) []keeper.Note {
	if !slices.ContainsFunc(forwards, func(f keeper.Forward) bool { return !f.Address.IsLoopback() }) {
		return nil
	}
	rules, err := s.host.Kernel().ReadFilters(ctx)
	if err != nil {
		return nil // the mender tells that
	}
	return s.upkeep.Barriers(rules, forwards)
}

// addForwards opens the sockets that the supervisor of a registered VM asks for.
func (c *connection) addForwards(ctx context.Context, req keeper.Request) ([]keeper.Port, []*os.File, error) {
	if err := c.changes.lock(ctx); err != nil {
		return nil, nil, err
	}
	defer c.changes.unlock()
	m, i, err := c.portOf(req.NIC)
	if err != nil {
		return nil, nil, err
	}
	total := len(req.Forwards)
	for _, p := range m.ports {
		total += len(p.Forwards)
	}
	if total > ports.Most {
		return nil, nil, keeper.TooManyForwards(c.vm)
	}
	made, files, err := c.openPorts(req.NIC, req.Forwards)
	if err != nil {
		return nil, nil, err
	}
	all := slices.Concat(m.ports[i].Forwards, made)
	c.translate(ctx, c.vm, m, c.missing(m.ports[i], all, m.steps))
	return c.setForwards(m, i, asDone(all, m.ports[i], m.steps)), files, nil
}

// removeForwards forgets forwards of a registered VM.
func (c *connection) removeForwards(ctx context.Context, req keeper.Request) ([]keeper.Port, error) {
	if err := c.changes.lock(ctx); err != nil {
		return nil, err
	}
	defer c.changes.unlock()
	m, i, err := c.portOf(req.NIC)
	if err != nil {
		return nil, err
	}
	left := slices.Clone(m.ports[i].Forwards)
	for _, f := range req.Forwards {
		at := slices.IndexFunc(left, func(have keeper.Forwarded) bool { return have.Forward == f })
		if at >= 0 {
			left = slices.Delete(left, at, at+1)
		} else if !slices.ContainsFunc(req.Forwards, func(o keeper.Forward) bool { return forward.Twins(f, o) }) {
			return nil, &keeper.ForwardError{NIC: req.NIC, Forward: f, Err: host.Refuse("VM %q has no such forward", c.vm)}
		}
	}
	all := c.setForwards(m, i, left)
	return all, c.keepOnly(ctx, c.vm, m)
}

// portOf finds a port of the VM that the connection has registered. server.changes is held.
func (c *connection) portOf(nic int) (*member, int, error) {
	m := c.vms[c.vm]
	if m == nil || c.over {
		return nil, 0, host.Refuse("forward ports: no VM is registered by this connection")
	}
	i := slices.IndexFunc(m.ports, func(p keeper.Port) bool { return p.NIC == nic })
	if i < 0 {
		return nil, 0, host.Refuse("forward ports: VM %q has no NIC %d on network %q", c.vm, nic, c.place.Name)
	}
	return m, i, nil
}

// setForwards makes these the forwards of a VM's port, and returns all its ports. server.changes
// is held.
func (c *connection) setForwards(m *member, port int, list []keeper.Forwarded) []keeper.Port {
	c.mu.Lock()
	m.ports[port].Forwards = list
	m.changed = true
	all := slices.Clone(m.ports)
	c.mu.Unlock()
	m.poke()
	return all
}
