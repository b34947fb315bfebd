package forwards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/profiles/ports"
)

// errNone is the cause where ports of the host cannot lead to a NIC, or to any of a VM's.
var errNone = errors.New("ports of the host lead to NICs in the modes host-only, nat, user, and bridge without macvtap only")

// takes reports whether ports of the host can lead to a NIC.
func (s *Forwards) takes(n profiles.NIC) bool {
	return n.Mode != profiles.None && n.Mode != profiles.Private && !s.Profile.Networks[n.Network].Macvtap
}

// read reads the arguments of an operation: the forwards, and the NIC that they are for.
func (s *Forwards) read(args json.RawMessage) (list []profiles.Forward, nic int, err error) {
	var a control.ForwardArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, 0, fmt.Errorf("read arguments: %w", err)
	}
	for _, text := range a.Ports {
		more, err := ports.Parse(text)
		if err != nil {
			return nil, 0, fmt.Errorf("read ports: %w", err)
		}
		list = append(list, more...)
	}
	for i, n := range s.Profile.NICs {
		if (a.NIC == nil || *a.NIC == i) && s.takes(n) {
			return list, i, nil
		}
	}
	return nil, 0, errNone
}

// Add forwards more ports, all or none, until the VM's end. args are control.ForwardArgs.
func (s *Forwards) Add(ctx context.Context, q QEMU, args json.RawMessage) error {
	list, nic, err := s.read(args)
	if err != nil {
		return err
	}
	before := s.all()
	var have []profiles.Forward
	for _, m := range before {
		have = append(have, m.f)
	}
	for _, f := range list {
		if o, ok := ports.Meeting(f, have); ok {
			return fmt.Errorf("forward %s: the VM forwards %s already", f, o)
		}
		if err := forward.MayBind(f.Port, control.Asker(ctx)); err != nil {
			return &keeper.ForwardError{NIC: nic, Forward: f, Err: err}
		}
		have = append(have, f)
	}
	if len(have) > ports.Most {
		return keeper.TooManyForwards(s.Profile.Name)
	}
	if err := s.add(ctx, q, nic, list); err != nil {
		return errors.Join(err, s.end(ctx, q, s.all()[len(before):]))
	}
	return nil
}

func (s *Forwards) add(ctx context.Context, q QEMU, nic int, list []profiles.Forward) error {
	r := s.Host.Registration(nic)
	if r == nil {
		sockets, err := keeper.Options{RunDir: s.RunDir}.Listen(ctx, nic, list)
		if err == nil {
			defer forward.CloseAll(sockets)
			err = s.byUser(ctx, q, nic, list, sockets)
		}
		return err
	}
	sockets, err := r.Forward(ctx, nic, list)
	defer forward.CloseAll(sockets)
	for i, f := range list {
		if err == nil && sockets[i] != nil { // the host may have no ::1
			err = s.relayTo(&made{f: f, nic: nic}, sockets[i])
		}
	}
	return err
}

// Remove ends forwards, whatever NIC they lead to. args are control.ForwardArgs. One at ::1 may
// be missing beside its twin: the host may have no IPv6.
func (s *Forwards) Remove(ctx context.Context, q QEMU, args json.RawMessage) error {
	list, _, err := s.read(args)
	if err != nil {
		return err
	}
	var end []*made
	for _, f := range list {
		all := s.all()
		i := slices.IndexFunc(all, func(m *made) bool { return m.f == f })
		if i >= 0 {
			end = append(end, all[i])
		} else if !slices.ContainsFunc(list, func(o profiles.Forward) bool { return forward.Twins(f, o) }) {
			return fmt.Errorf("end forward %s: the VM has none such; qnet forward ls %s lists them", f, s.Profile.Name)
		}
	}
	return s.end(ctx, q, end)
}

// end ends forwards: other machines reach the guest no more, and then the ports close and the
// connections that there are end.
func (s *Forwards) end(ctx context.Context, q QEMU, list []*made) error {
	var errs []error
	byNIC := map[int][]profiles.Forward{}
	for _, m := range list {
		byNIC[m.nic] = append(byNIC[m.nic], m.f)
	}
	for nic, forwards := range byNIC {
		if r := s.Host.Registration(nic); r != nil {
			errs = append(errs, r.Unforward(ctx, nic, forwards))
		}
	}
	for _, m := range list {
		s.relay.Remove(m.f)
		if s.Host.Registration(m.nic) == nil {
			errs = append(errs, s.endQEMU(ctx, q, m))
		}
	}
	s.mu.Lock()
	s.list = slices.DeleteFunc(s.list, func(m *made) bool { return slices.Contains(list, m) })
	s.mu.Unlock()
	return errors.Join(errs...)
}

// endQEMU has QEMU listen no more for a forward.
func (s *Forwards) endQEMU(ctx context.Context, q QEMU, m *made) error {
	at := m.inner
	if !at.IsValid() {
		at = netip.AddrPortFrom(m.f.Address, m.f.Port)
	}
	place, _ := s.Host.Place(m.nic)
	return q.RemoveForward(ctx, place, m.f.Proto, at)
}
