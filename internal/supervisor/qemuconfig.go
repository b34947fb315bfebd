package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// Files are the files that a profile names. The zero value stands for a VM that is
// planned only: its files count as there.
type Files struct {
	Kernel, Initrd *os.File
	Disks          []*os.File // in the profile's order
}

// planned stands in a qemu.Config for a file that only a run opens: the command line
// numbers its files and does not look at them.
var planned = os.Stdin

// QEMUConfig returns the machine of a profile, for a run and for a plan. nics
// holds what connects each NIC to the host, by its index in the profile: Taps, VHost and
// the network's MTU, 0 where that is not known yet. Binary and Extra are the caller's to
// set.
func QEMUConfig(p *profiles.Profile, salt []byte, files Files, nics map[int]qemu.NIC) qemu.Config {
	c := qemu.Config{
		Name: p.Name, Memory: p.Memory, CPUs: p.CPUs, Accel: string(p.Accel), CPU: p.CPU, Machine: p.Machine,
		Kernel: fileOf(p.Boot.Kernel, files.Kernel), Initrd: fileOf(p.Boot.Initrd, files.Initrd), Cmdline: p.Boot.Cmdline,
	}
	for i, d := range p.Disks {
		disk := qemu.Disk{File: planned, Format: d.Format, Snapshot: d.Snapshot, ReadOnly: d.ReadOnly}
		if i < len(files.Disks) {
			disk.File = files.Disks[i]
		}
		c.Disks = append(c.Disks, disk)
	}
	for i, n := range p.NICs {
		if n.Mode == profiles.None {
			continue
		}
		nic := nics[i]
		nic.Model, nic.MAC, nic.User, nic.MTU = n.Model, MAC(p, i, salt), n.Mode == profiles.User, guestMTU(n, nic.MTU)
		nic.NoROM = !netBoot(p, n)
		c.NICs = append(c.NICs, nic)
	}
	return c
}

// netBoot reports whether the firmware may boot by the NIC, for which QEMU needs a boot ROM.
// It may where it has no disk, or where something can answer: a network with a boot file,
// the LAN of mode bridge, the VMs of mode private. On the others qnet serves DHCP, or QEMU
// does, and names no boot file.
func netBoot(p *profiles.Profile, n profiles.NIC) bool {
	if p.Boot.Kernel != "" {
		return false
	}
	return len(p.Disks) == 0 || n.Mode != profiles.User && !n.Mode.HasSubnet() || p.Networks[n.Network].PXE.File != ""
}

// fileOf returns the file that the profile names by the path, which may be "".
func fileOf(path string, f *os.File) *os.File {
	if path != "" && f == nil {
		return planned
	}
	return f
}

// PlanNICs returns what a run would give QEMUConfig, without any files. mtu returns a
// network's MTU.
func PlanNICs(p *profiles.Profile, mtu func(network string) int) map[int]qemu.NIC {
	nics := map[int]qemu.NIC{}
	vhost := planVHost(vhostDevice)
	for i, n := range p.NICs {
		if !n.Mode.NeedsNetwork() {
			continue
		}
		nic := qemu.NIC{Taps: make([]*os.File, 1), MTU: mtu(n.Network)}
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
	if p.Accel == profiles.AccelTCG || n.Model != "" && n.Model != qemu.VirtioNet || hasMacvtap(p) {
		return 0
	}
	return min(p.CPUs, qemu.MaxQueues)
}

// hasMacvtap reports whether a network of the profile is a macvtap link, whose file
// exists no sooner than the link: the keepers open the files of all its taps then.
func hasMacvtap(p *profiles.Profile) bool {
	return slices.ContainsFunc(NetworksOf(p), func(n profiles.Network) bool { return n.Macvtap })
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

// guestMTU is the MTU that QEMU tells the guest for a NIC on a network with the MTU, in
// bytes, so that a guest without a DHCP client has it too; 0 tells nothing. In mode
// bridge QEMU tells nothing: the guest could not follow a NIC whose MTU grows, and the
// LAN's DHCP server tells it.
func guestMTU(n profiles.NIC, mtu int) int {
	if mtu == host.DefaultMTU || n.Mode == profiles.Bridge || n.Model != qemu.VirtioNet {
		return 0
	}
	return mtu
}
