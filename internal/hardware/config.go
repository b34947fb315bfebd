package hardware

import (
	"net"
	"os"
	"slices"

	"github.com/qnet-vm/qnet/macgen"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// planned stands in a machine.Config for a file that only a run opens: the command line
// numbers its files and does not look at them.
var planned = os.Stdin

// Config returns the machine of a profile, for a run and for a plan, which has no files:
// nil stands for files that count as there. nics holds what connects each NIC to the host,
// by its index in the profile: Taps, VHost and the network's MTU in bytes, 0 where that is
// not known yet. Binary and Extra are the caller's to set.
func Config(p *profiles.Profile, salt []byte, files *Files, nics map[int]machine.NIC) machine.Config {
	if files == nil {
		files = &Files{}
	}
	c := machine.Config{
		Name: p.Name, Memory: p.Memory, CPUs: p.CPUs, Accel: string(p.Accel), CPU: p.CPU, Machine: p.Machine,
		Kernel: fileOf(p.Boot.Kernel, files.Kernel), Initrd: fileOf(p.Boot.Initrd, files.Initrd), Cmdline: p.Boot.Cmdline,
		Stat: files.stat, Shares: files.shares(p),
		UEFI: files.flash(p), Boot: machine.Boot{Order: p.Boot.Order, Menu: p.Boot.Menu}, Devices: files.devices(p), GuestAgent: p.Devices.GuestAgent,
	}
	for i, d := range Disks(p) {
		var open Disk
		if i < len(files.Disks) {
			open = files.Disks[i]
		}
		c.Disks = append(c.Disks, machineDisk(i, d, open))
	}
	tell(&c, p, files)
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

// MAC returns the address of a profile's NIC: the one that the profile gives, or the
// derived one.
func MAC(p *profiles.Profile, i int, salt []byte) net.HardwareAddr {
	if p.NICs[i].MAC != nil {
		return p.NICs[i].MAC
	}
	return macgen.Derive(salt, p.Path+"/"+p.Name, i)
}

// netBoot reports whether the firmware may boot by the NIC, for which QEMU needs a boot ROM.
// It may where the profile's order has the network, or, without an order, where it has no disk, or where something can answer: a network with a boot file,
// the LAN of mode bridge, the VMs of mode private. On the others qnet serves DHCP, or QEMU
// does, and names no boot file.
func netBoot(p *profiles.Profile, n profiles.NIC) bool {
	switch {
	case p.Boot.Kernel != "":
		return false
	case p.Boot.Order != nil:
		return slices.Contains(p.Boot.Order, profiles.BootNetwork)
	}
	return len(Disks(p)) == 0 || n.Mode != profiles.User && !n.Mode.HasSubnet() || p.Networks[n.Network].PXE.File != ""
}

// devices returns what the machine has besides disks and NICs.
func (f *Files) devices(p *profiles.Profile) machine.Devices {
	d := machine.Devices{
		Screen: p.Display == profiles.VNC || p.Display == profiles.Window, Sound: p.Devices.Sound, GDB: f.GDB,
		Balloon: p.Devices.Balloon, RTC: p.Devices.RTC, Watchdog: p.Devices.Watchdog,
	}
	if p.Devices.GDB && d.GDB == nil {
		d.GDB = planned
	}
	switch {
	case f.tpm != nil:
		d.TPM = f.tpm.connect
	case p.TPM:
		d.TPM = func() (*os.File, error) { return planned, nil }
	}
	return d
}

// fileOf returns the file that the profile names by the path, which may be "".
func fileOf(path string, f *os.File) *os.File {
	if path != "" && f == nil {
		return planned
	}
	return f
}

// guestMTU is the MTU that QEMU tells the guest for a NIC on a network with the MTU, in
// bytes, so that a guest without a DHCP client has it too; 0 tells nothing. In mode
// bridge QEMU tells nothing: the guest could not follow a NIC whose MTU grows, and the
// LAN's DHCP server tells it.
func guestMTU(n profiles.NIC, mtu int) int {
	if mtu == host.DefaultMTU || n.Mode == profiles.Bridge || n.Model != machine.VirtioNet {
		return 0
	}
	return mtu
}
