package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/kernel"
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
	s.taps, s.vhost = map[int][]*os.File{}, map[int][]*os.File{}
	s.onClose(func() error { s.closeTaps(); return nil })
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

// openTap opens the files of a NIC's queues: one for each vCPU where the host's kernel
// moves the packets, by vhost. Where QEMU does, in one thread, more bring nothing
// (docs/performance.md).
func (s *session) openTap(i int, n profiles.NIC) error {
	queues := 1
	if s.profile.Accel != profiles.AccelTCG && (n.Model == "" || n.Model == qemu.VirtioNet) {
		s.vhost[i] = openVHost(vhostDevice, min(s.profile.CPUs, qemu.MaxQueues))
		queues = max(len(s.vhost[i]), 1)
	}
	for range queues {
		f, err := kernel.OpenTun()
		if errors.Is(err, os.ErrPermission) {
			err = fmt.Errorf("%w: %w", host.ErrNoPermission, err)
		}
		if err != nil {
			return err
		}
		s.taps[i] = append(s.taps[i], f)
	}
	return nil
}

const vhostDevice = "/dev/vhost-net"

// openVHost opens the device for each queue, or not at all where that is impossible.
func openVHost(device string, queues int) []*os.File {
	var files []*os.File
	for range queues {
		f, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	return files
}

func (s *session) closeTaps() {
	for _, nics := range []map[int][]*os.File{s.taps, s.vhost} {
		for i, files := range nics {
			for _, f := range files {
				f.Close()
			}
			delete(nics, i)
		}
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
	ports, infos := s.ports()
	var nics []qemu.NIC
	for i, n := range s.profile.NICs {
		if n.Mode == profiles.None {
			continue
		}
		nic := qemu.NIC{Model: n.Model, MAC: MAC(s.profile, i, s.salt), User: n.Mode == profiles.User, Taps: s.taps[i], VHost: s.vhost[i]}
		nic.MTU = HostMTU(n, s.profile.Networks[n.Network].MTU)
		if p, ok := ports[i]; ok {
			nic.MTU = HostMTU(n, infos[i].MTU)
			if p.File != nil {
				nic.Taps = []*os.File{p.File}
			}
		}
		nics = append(nics, nic)
	}
	return nics
}

// HostMTU is what QEMU tells the guest of its NIC's network, which has that MTU, so
// that a guest without a DHCP client has it too; 0 is nothing. In mode bridge it tells
// nothing: the guest could not follow a NIC whose MTU grows, and the LAN's DHCP tells.
func HostMTU(n profiles.NIC, mtu int) int {
	if mtu == host.DefaultMTU || n.Mode == profiles.Bridge || n.Model != qemu.VirtioNet {
		return 0
	}
	return mtu
}

// relaunch launches QEMU again where the network turned out to have an MTU that the
// profile does not tell, by another VM's choice or its uplinks': to load it is what
// the time before the network's answer was for, and a NIC's MTU is said at launch.
func (s *session) relaunch() error {
	nics := s.qemuNICs()
	if slices.EqualFunc(nics, s.config.NICs, func(a, b qemu.NIC) bool { return a.MTU == b.MTU }) {
		return nil
	}
	if err := s.qemu.Close(); err != nil {
		return err
	}
	return s.launchQEMU()
}
