package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/netsetup"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// launch lets QEMU load, which takes it some 20 ms, while the network comes up. It
// has its taps' files from here, as files of the tun device that the keeper makes
// taps of; only a macvtap link's file exists no sooner than the link.
func (s *session) launch(context.Context) error {
	if err := s.makeLogDir(); err != nil {
		return err
	}
	if slices.ContainsFunc(NetworksOf(s.profile), func(n profiles.Network) bool { return n.Macvtap }) {
		return nil
	}
	s.taps = map[int][]*os.File{}
	s.onClose(func() error { s.closeTaps(); return nil })
	for i, n := range s.profile.NICs {
		if n.Network == "" {
			continue
		}
		f, err := netsetup.OpenTun()
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: %w", netsetup.ErrNoPermission, err)
		}
		if err != nil {
			return fmt.Errorf("join network %q: %w", n.Network, err)
		}
		s.taps[i] = []*os.File{f}
	}
	return s.launchQEMU()
}

func (s *session) closeTaps() {
	for i, files := range s.taps {
		for _, f := range files {
			f.Close()
		}
		delete(s.taps, i)
	}
}

// giveUp lets go of all that holds the taps' files.
func (s *session) giveUp() {
	if s.qemu != nil {
		s.qemu.Close() //nolint:errcheck // the error that led here tells more
	}
	s.closeTaps()
}

func (s *session) launchQEMU() error {
	s.config.NICs = s.qemuNICs()
	var log *logFile
	err := s.User.Do(func() (err error) {
		log, err = openLog(filepath.Join(logDir(s.StateDir, s.profile.Name), "qemu.log"))
		return err
	})
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.onClose(log.Close)
	err = asuser.AsRoot(func() (err error) {
		s.qemu, err = qemu.Launch(s.config, qemu.StartOptions{Credential: Credential(s.User), Stderr: log, Warn: s.Warn})
		return err
	})
	if err == nil {
		s.onClose(s.qemu.Close)
	}
	return err
}

// makeLogDir makes the directory of the VM's logs, the user's own.
func (s *session) makeLogDir() error {
	dir := logDir(s.StateDir, s.profile.Name)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = s.User.Chown(dir)
	}
	if err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	return nil
}

// ports are the NICs' connections by their index in the profile.
func (s *session) ports() (map[int]keeper.Port, map[int]keeper.Info) {
	ports, infos := map[int]keeper.Port{}, map[int]keeper.Info{}
	for _, r := range s.regs {
		for _, p := range r.Ports() {
			ports[p.NIC], infos[p.NIC] = p, r.Info()
		}
	}
	return ports, infos
}

// qemuNICs are the profile's NICs for QEMU.
func (s *session) qemuNICs() []qemu.NIC {
	ports, _ := s.ports()
	var nics []qemu.NIC
	for i, n := range s.profile.NICs {
		if n.Mode == profiles.None {
			continue
		}
		nic := qemu.NIC{Model: n.Model, MAC: MAC(s.profile, i, s.salt), User: n.Mode == profiles.User, Taps: s.taps[i]}
		if p, ok := ports[i]; ok {
			nic.Taps = []*os.File{p.File}
		}
		nics = append(nics, nic)
	}
	return nics
}
