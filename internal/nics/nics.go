// Package nics decides by the same words, for a run and for `qnet plan`, what connects the NICs of
// a profile to the host: how many queues each has, and whether the kernel moves its packets.
package nics

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// Plan returns what a run would give hardware.Config, without any files. mtu returns a
// network's MTU.
func Plan(p *profiles.Profile, mtu func(network string) int) map[int]machine.NIC {
	nics := map[int]machine.NIC{}
	vhost := planVHost(vhostDevice)
	for i, n := range p.NICs {
		if !n.Mode.NeedsNetwork() {
			continue
		}
		nic := machine.NIC{Taps: make([]*os.File, 1), MTU: mtu(n.Network)}
		if queues := vhostQueues(p, n); queues > 0 && vhost {
			nic.Taps, nic.VHost = make([]*os.File, queues), make([]*os.File, queues)
		}
		nics[i] = nic
	}
	return nics
}

// vhostQueues is how many queues a NIC gets if the host has vhost: one for each vCPU.
// It is 0 where vhost is not tried. Where QEMU moves the packets, in one thread, more
// queues than one bring nothing (docs/performance.md).
func vhostQueues(p *profiles.Profile, n profiles.NIC) int {
	if p.Accel == profiles.AccelTCG || n.Model != "" && n.Model != machine.VirtioNet || Macvtap(p) {
		return 0
	}
	return min(p.CPUs, machine.MaxQueues)
}

// Macvtap reports whether a network of the profile is a macvtap link, whose file
// exists no sooner than the link: the keepers open the files of all its taps then.
func Macvtap(p *profiles.Profile) bool {
	return slices.ContainsFunc(p.NICs, func(n profiles.NIC) bool { return p.Networks[n.Network].Macvtap })
}

const vhostDevice = "/dev/vhost-net"

// OpenVHost opens a file of /dev/vhost-net for each queue of a NIC, and none where the
// host's kernel is not to move its packets, or cannot. The caller closes them.
func OpenVHost(p *profiles.Profile, n profiles.NIC) []*os.File {
	return openVHost(vhostDevice, vhostQueues(p, n))
}

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

// planVHost reports whether a run could open the device. A run has root's rights, also
// if the plan has not.
func planVHost(device string) bool {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	f.Close()
	return true
}
