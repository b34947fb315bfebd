package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/logfile"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/internal/vmuser"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// launch starts QEMU before the network is there: QEMU loads, some 20 ms, while the
// network comes up. The supervisor opens the taps' files, as files of the tun device;
// the keeper later makes them taps. With macvtap, QEMU starts after the join.
func (s *session) launch(ctx context.Context) error {
	if err := errors.Join(s.makeLogDir(), s.listenForGDB(ctx), s.listenForViewers(ctx)); err != nil {
		return err
	}
	if nics.Macvtap(s.profile) {
		return nil
	}
	s.onClose(func(context.Context) error { s.closeTaps(); return nil })
	for i, n := range s.profile.NICs {
		if n.Network == "" {
			continue
		}
		if err := s.openTap(i, n); err != nil {
			return fmt.Errorf("join network %q: %w", n.Network, err)
		}
	}
	return s.launchQEMU()
}

// openTap opens the files of a NIC's queues.
func (s *session) openTap(i int, n profiles.NIC) error {
	b := machine.NIC{MTU: s.profile.Networks[n.Network].MTU}
	b.VHost = nics.OpenVHost(s.profile, n)
	defer func() { s.nics[i] = b }()
	for range max(len(b.VHost), 1) {
		f, err := kernel.OpenTun()
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: %w", host.ErrNoPermission, err)
		}
		if err != nil {
			return err
		}
		b.Taps = append(b.Taps, f)
	}
	return nil
}

// closeTaps closes the supervisor's own files of the taps: QEMU and the keepers have
// theirs.
func (s *session) closeTaps() {
	for i, b := range s.nics {
		for _, f := range slices.Concat(b.Taps, b.VHost) {
			f.Close()
		}
		delete(s.nics, i)
	}
}

// giveUp closes all files of the taps, QEMU's too.
func (s *session) giveUp() {
	if s.qemu != nil {
		s.qemu.Close() //nolint:errcheck // the error that led here tells more
	}
	s.closeTaps()
}

// machine returns what QEMU is started with.
func (s *session) machine() machine.Config {
	c := s.resumed.Config(hardware.Config(s.profile, s.salt, s.files, s.nics))
	c.Binary, c.Extra = s.binary, s.Extra
	return c
}

func (s *session) launchQEMU() error {
	log, err := s.programLog("qemu.log")
	if err != nil {
		return err
	}
	if err := s.serveShares(); err != nil {
		return err
	}
	defer s.files.LeaveServing()
	s.config = s.machine()
	var launched *qemu.Launched
	err = asuser.AsRoot(func() (err error) {
		launched, err = qemu.Launch(s.config, s.startOptions(log))
		return err
	})
	if err != nil {
		return err
	}
	s.qemu = launched
	s.onClose(func(context.Context) error { return launched.Close() })
	return nil
}

// programLog opens a log of what a program writes, until the end.
func (s *session) programLog(file string) (log *logfile.File, err error) {
	err = s.User.Do(func() (err error) {
		log, err = logfile.Open(s.logPath(file))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open log: %w", s.unusable("state directory", s.StateDir, err))
	}
	s.onClose(func(context.Context) error { return log.Close() })
	return log, nil
}

func (s *session) startOptions(log io.Writer) qemu.StartOptions {
	o := qemu.StartOptions{Credential: vmuser.Credential(s.User, s.profile.Name), Stderr: log, Warn: s.warn, Restore: s.resumed.Restore(s.config), Sandbox: s.Sandbox}
	if s.resumed != nil {
		o.StartTimeout = loadTime
	}
	return o
}

// connect takes over the connections that the keepers made: a network's MTU, and the
// files of taps that the keepers opened.
func (s *session) connect() {
	for _, r := range s.regs {
		for _, p := range r.Ports() {
			b := s.nics[p.NIC]
			b.MTU = r.Info().MTU
			if p.File != nil {
				b.Taps = []*os.File{p.File}
			}
			s.nics[p.NIC] = b
		}
	}
}

// relaunch starts QEMU again if a network has another MTU than its profile tells, by
// the choice of another VM or of its uplinks. QEMU takes a NIC's MTU at its start
// only, and was started before the network's MTU was known.
func (s *session) relaunch() error {
	if slices.EqualFunc(s.machine().NICs, s.config.NICs, func(a, b machine.NIC) bool { return a.MTU == b.MTU }) {
		return nil
	}
	if err := s.qemu.Close(); err != nil {
		return err
	}
	return s.launchQEMU()
}

// ports returns the NICs' connections, and their networks, by their index in the
// profile.
func (s *session) ports() (map[int]keeper.Port, map[int]keeper.Info) {
	ports, infos := map[int]keeper.Port{}, map[int]keeper.Info{}
	for _, r := range s.regs {
		for _, p := range r.Ports() {
			ports[p.NIC], infos[p.NIC] = p, r.Info()
		}
	}
	return ports, infos
}
