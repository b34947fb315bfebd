// Package forwards is the ports of the host that lead to a VM's guest: which there are, how each
// is done, and what its supervisor does for them. Keepers bind the ports of their networks'
// NICs, and the supervisor relays. For a NIC in mode user QEMU itself forwards.
package forwards

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/relay"
	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

const (
	// dialTime bounds how long a guest may take to accept a connection.
	dialTime = 5 * time.Second
	// shyTime is that for a guest that has not shown its address yet. A moment decides there:
	// it answers ARP, or it is not there.
	shyTime = time.Second
	// privileged is the first port that a process without rights may bind, where
	// net.ipv4.ip_unprivileged_port_start (ip(7)) is the default. QEMU has no rights.
	privileged = 1024
	// settleTime bounds how long a VM's start waits for what keepers do for its forwards, which
	// other networks' changes may hold up. The relay has them meanwhile.
	settleTime = time.Second
	// innerTries is how often a port for QEMU is looked for: another process may take it first.
	innerTries = 8
)

// Host is what the forwards need of the VM's supervisor. Its methods may be called concurrently.
type Host interface {
	// NIC describes a NIC, by its index in the profile, as it is now.
	NIC(i int) control.NIC
	// Registration is that of the NIC's network, nil without one.
	Registration(i int) *keeper.Registration
	// Place is the NIC's among QEMU's.
	Place(i int) (place int, ok bool)
}

// QEMU forwards to NICs in mode user, by their place among QEMU's; see qemu.VM.
type QEMU interface {
	AddForward(ctx context.Context, nic int, proto string, at netip.AddrPort, guest uint16) error
	RemoveForward(ctx context.Context, nic int, proto string, at netip.AddrPort) error
}

// Forwards are those of a VM. Changes are the supervisor's to do one at a time; Describe may be
// called meanwhile.
type Forwards struct {
	RunDir  string
	Profile *profiles.Profile
	Host    Host
	// Off leaves out those of the profile: a guest that is booted for others has none.
	Off bool

	relay   relay.Relay
	sockets map[int][]*os.File // bound for NICs in mode user

	mu   sync.Mutex // guards what follows
	list []*made    // in their order of coming
}

// made is a forward that is there.
type made struct {
	f     profiles.Forward
	nic   int            // index in the profile
	how   string         // in mode user; else the keeper says it
	inner netip.AddrPort // in mode user, by relay: where QEMU listens for the relay
}

// Of returns what the profile forwards to a NIC.
func (s *Forwards) Of(nic int) []profiles.Forward {
	if s.Off {
		return nil
	}
	return s.Profile.NICs[nic].Forwards
}

// Bind binds the ports that lead to NICs in mode user, with the caller's rights, all or none: the
// error is a *keeper.ForwardError. The ports of the others are their keepers'.
func (s *Forwards) Bind(ctx context.Context) (err error) {
	for i, n := range s.Profile.NICs {
		if list := s.Of(i); n.Mode == profiles.User && len(list) > 0 && err == nil {
			if s.sockets == nil {
				s.sockets = map[int][]*os.File{}
			}
			s.sockets[i], err = keeper.Options{RunDir: s.RunDir}.Listen(ctx, i, list)
		}
	}
	return err
}

// Explain gives an error about a forward of the profile the file, line and key that the forward
// comes from, and returns any other as it is.
func (s *Forwards) Explain(err error) error {
	failed, ok := errors.AsType[*keeper.ForwardError](err)
	if !ok {
		return err
	}
	key := s.Profile.ForwardKey(failed.Forward)
	if key == "" {
		return err
	}
	return &placedError{s.Profile.Wrong(key, "%v", err).Error(), err}
}

// placedError is an error with the place in the profile that led to it.
type placedError struct {
	text string
	err  error
}

func (e *placedError) Error() string { return e.text }

func (e *placedError) Unwrap() error { return e.err }

// Begin begins to forward the ports that were bound: those of Bind, and of the ports that the
// keepers connected, by their NIC's index. It takes over their sockets. say gets the lines of Plan,
// once the keepers have said what may keep other machines from the ports.
func (s *Forwards) Begin(ctx context.Context, q QEMU, connected map[int]keeper.Port, say func(string)) error {
	for nic := range s.Profile.NICs {
		p := connected[nic]
		for i, f := range p.Forwards {
			if err := s.relayTo(&made{f: f.Forward, nic: nic}, p.Sockets[i]); err != nil {
				return err
			}
		}
		if sockets := s.sockets[nic]; sockets != nil {
			if err := s.byUser(ctx, q, nic, s.Of(nic), sockets); err != nil {
				return err
			}
		}
	}
	if s.Off {
		return nil
	}
	s.settle(ctx)
	for _, line := range Plan(s.Profile) {
		say(line)
	}
	return nil
}

// settle waits until the keepers have done what they do for the VM's forwards besides their
// sockets. They do it while QEMU starts, so that it is seldom a wait.
func (s *Forwards) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for nic := range s.Profile.NICs {
		if r := s.Host.Registration(nic); r != nil && len(s.Of(nic)) > 0 {
			select {
			case <-r.Settled():
			case <-ctx.Done():
			}
		}
	}
}

// Close ends all forwards.
func (s *Forwards) Close() {
	for _, sockets := range s.sockets {
		forward.CloseAll(sockets)
	}
	s.relay.Close()
}

// relayTo relays a bound port to the guest, or to where QEMU listens for it.
func (s *Forwards) relayTo(m *made, socket *os.File) error {
	err := s.relay.Add(m.f, socket, func() (netip.AddrPort, time.Duration) {
		if m.inner.IsValid() {
			return m.inner, dialTime
		}
		return guestAt(s.Host.NIC(m.nic), m.f.Guest)
	})
	if err == nil {
		s.keep(m)
	}
	return err
}

func (s *Forwards) keep(m *made) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, m)
}

func (s *Forwards) all() []*made {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// guestAt returns where a guest's port is: at the address that the guest uses, by its lease or as
// it has shown it, IPv4 before IPv6. within is how long a dial may take.
func guestAt(n control.NIC, port uint16) (to netip.AddrPort, within time.Duration) {
	for _, a := range n.Addresses() {
		if !a.IsLinkLocalUnicast() {
			return netip.AddrPortFrom(a, port), dialTime
		}
	}
	if n.Address.IsValid() {
		return netip.AddrPortFrom(n.Address, port), shyTime
	}
	return netip.AddrPort{}, 0
}

// ByQEMU reports whether QEMU itself listens for a forward to a NIC in mode user. It knows IPv4
// only and has no rights, and of UDP it answers from the address that the route prefers.
func ByQEMU(f profiles.Forward) bool {
	return f.Address.Is4() && f.Port >= privileged && (f.Proto == forward.TCP || !f.Address.IsUnspecified())
}

// byUser forwards bound ports to a NIC in mode user: by QEMU, which binds the port again, or by a
// relay to a port of 127.0.0.1 that QEMU listens at.
func (s *Forwards) byUser(ctx context.Context, q QEMU, nic int, list []profiles.Forward, sockets []*os.File) error {
	place, _ := s.Host.Place(nic)
	for i, f := range list {
		if sockets[i] == nil {
			continue // the host has no ::1
		}
		var err error
		m := &made{f: f, nic: nic, how: control.ByHostfwd}
		if ByQEMU(f) {
			sockets[i].Close()
			if err = q.AddForward(ctx, place, f.Proto, netip.AddrPortFrom(f.Address, f.Port), f.Guest); err == nil {
				s.keep(m)
			}
		} else {
			m.how = control.ByRelay
			if m.inner, err = addInner(ctx, q, place, f); err == nil {
				err = s.relayTo(m, sockets[i])
			}
		}
		if err != nil {
			return &keeper.ForwardError{NIC: nic, Forward: f, Err: err}
		}
	}
	return nil
}

// addInner has QEMU listen at a free port of 127.0.0.1.
func addInner(ctx context.Context, q QEMU, place int, f profiles.Forward) (at netip.AddrPort, err error) {
	for range innerTries {
		if at, err = freePort(ctx, f.Proto); err != nil {
			return at, err
		}
		if err = q.AddForward(ctx, place, f.Proto, at, f.Guest); err == nil {
			return at, nil
		}
	}
	return at, err
}

// freePort returns a port of 127.0.0.1 that is free just now.
func freePort(ctx context.Context, proto string) (netip.AddrPort, error) {
	var config net.ListenConfig
	const any4 = "127.0.0.1:0"
	if proto == forward.UDP {
		c, err := config.ListenPacket(ctx, "udp4", any4)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return c.LocalAddr().(*net.UDPAddr).AddrPort(), c.Close()
	}
	l, err := config.Listen(ctx, "tcp4", any4)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return l.Addr().(*net.TCPAddr).AddrPort(), l.Close()
}

// Describe returns the forwards to a NIC, with what they have carried.
func (s *Forwards) Describe(nic int) (list []control.Forward) {
	for _, m := range s.all() {
		if m.nic != nic {
			continue
		}
		d := control.Forward{Proto: m.f.Proto, Address: m.f.Address, Port: m.f.Port, Guest: m.f.Guest, How: m.how}
		if r := s.Host.Registration(nic); r != nil {
			d.How = r.How(nic, m.f)
		}
		if m.how != control.ByHostfwd {
			count := s.relay.Count(m.f)
			d.Carried = &count
		}
		list = append(list, d)
	}
	return list
}

// Plan says how a run would forward ports, as comments of a shell.
func Plan(p *profiles.Profile) (lines []string) {
	for i, n := range p.NICs {
		for _, f := range n.Forwards {
			how := "by a relay"
			switch {
			case n.Mode == profiles.User && ByQEMU(f):
				how = "by QEMU (hostfwd_add)"
			case n.Mode == profiles.User:
				how = "by a relay to QEMU (hostfwd_add at a free port of 127.0.0.1)"
			case n.Mode == profiles.NAT && forward.Outside(f):
				how = "by a relay, and for other machines over IPv4 by DNAT"
			}
			lines = append(lines, fmt.Sprintf("# forward %s/%s to port %d of NIC %d %s", f.Listens(), f.Proto, f.Guest, i, how))
		}
	}
	return lines
}
