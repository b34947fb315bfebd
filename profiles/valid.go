package profiles

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/pattern"
	"github.com/qnet-vm/qnet/profiles/strict"
)

const (
	minSubnet, maxSubnet = 20, 29 // bits

	maxNICs  = 15 // PCI slots of the machine that package qemu sets aside
	maxDisks = 13
)

var (
	namePattern = pattern.Of(NamePattern)
	rfc1918     = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	}
)

// noModels are words that QEMU takes for something else than a model of a CPU.
var noModels = []string{"help", "none"}

// valid turns the raw profile into typed values and checks keys against each other.
func (d *decoder) valid(raw rawProfile, abs string) *Profile {
	p := &Profile{
		Name: d.name(raw.Name, abs), Path: abs, Memory: d.memory(raw.Memory), CPUs: int(cmp.Or(raw.CPUs, 1)),
		Accel: Accel(cmp.Or(raw.Accel, "auto")), CPU: raw.CPU, Machine: cmp.Or(raw.Machine, "q35"),
	}
	if slices.Contains(noModels, p.CPU) {
		d.Fail("cpu", "got %s, which QEMU takes for no model; allowed: one of those that qemu-system-x86_64 -cpu help lists", strict.Quote(p.CPU))
	}
	dir := filepath.Dir(abs)
	p.Image, p.Size, p.TPM = d.image(dir, raw.Image), d.size("size", raw.Size), raw.TPM
	if raw.Size != "" && raw.Image == "" {
		d.Fail("size", "got %s without image: it is the size of the disk made of that; a [[disk]] has a size of its own", strict.Quote(raw.Size))
	}
	p.Boot = d.boot(raw.Boot, dir)
	if p.Boot.Firmware == UEFISecure && p.Machine != "q35" {
		d.Fail("boot.firmware", "got \"uefi-secure\" with machine %s, allowed: with q35, which has the system management mode that it needs", strict.Quote(p.Machine))
	}
	p.Guest = d.guest(raw.Guest, dir)
	p.Disks = d.disks(raw.Disk, dir, p.Image != Image{})
	p.Shares = d.shares(raw.Share, dir)
	p.Display = DisplayType(cmp.Or(raw.Display.Type, string(NoDisplay)))
	p.Devices = Devices{
		Balloon: raw.Devices.Balloon, RTC: cmp.Or(raw.Devices.RTC, "utc"), Watchdog: cmp.Or(raw.Devices.Watchdog, "none"),
		GDB: raw.Devices.GDB, Sound: raw.Devices.Sound, GuestAgent: raw.Devices.GuestAgent,
	}
	if raw.NIC == nil {
		raw.NIC = []rawNIC{{}}
	}
	p.NICs = d.nics(raw.NIC)
	p.Networks = d.networks(p.NICs, raw.Network)
	d.addresses(p)
	d.addresses6(p)
	return p
}

func (d *decoder) name(given, abs string) string {
	if given != "" || d.Has("name") {
		if why := Reserved(given); why != "" {
			d.Fail("name", "got %s, which %s; allowed: another name", strict.Quote(given), why)
		}
		return given
	}
	name := strings.TrimSuffix(filepath.Base(abs), ".toml")
	if !namePattern().MatchString(name) {
		d.Fail("name", "missing, and the file's name %s cannot stand in for it; allowed: %s", strict.Quote(name), namePattern())
	} else if why := Reserved(name); why != "" {
		d.Fail("name", "missing, and the file's name %s cannot stand in for it: it %s", strict.Quote(name), why)
	}
	return name
}

func (d *decoder) nics(raws []rawNIC) []NIC {
	if len(raws) > maxNICs {
		d.Fail("nic", "got %d, allowed: at most %d", len(raws), maxNICs)
	}
	var nics []NIC
	for i, r := range raws {
		key := fmt.Sprintf("nic[%d].", i)
		n := NIC{Mode: Mode(cmp.Or(r.Mode, "nat")), Network: r.Network, Model: cmp.Or(r.Model, "virtio-net-pci"), Unguarded: r.Guard == "off"}
		if n.Mode.NeedsNetwork() {
			n.Network = cmp.Or(n.Network, string(n.Mode))
		} else if n.Network != "" {
			d.Fail(key+"network", "got %s, but mode %s is on no network", strict.Quote(n.Network), n.Mode)
		}
		if r.Guard != "" && !n.Mode.NeedsNetwork() {
			d.Fail(key+"guard", "got %s, but mode %s is on no network; allowed in: private, host-only, nat, bridge", strict.Quote(r.Guard), n.Mode)
		}
		n.Reach = d.reach(key, r, n.Mode)
		n.MAC = d.mac(key+"mac", r.MAC, nics)
		n.Address = d.address(key+"address", r.Address, n.Mode)
		n.Address6 = d.address6(key+"address6", r.Address6, n.Mode)
		n.Forwards = d.forwards(key+"ports", r.Ports, n.Mode, nics)
		nics = append(nics, n)
	}
	return nics
}

func (d *decoder) mac(key, s string, sofar []NIC) net.HardwareAddr {
	if s == "" {
		return nil
	}
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil:
		d.Fail(key, "got %s, allowed: six bytes like 52:54:00:12:34:56", strict.Quote(s))
	case mac[0]&1 != 0:
		d.Fail(key, "got %s, a multicast address; the first byte must be even", s)
	case mac.String() == "00:00:00:00:00:00":
		d.Fail(key, "got %s, which is no address", s)
	case slices.ContainsFunc(sofar, func(n NIC) bool { return n.MAC.String() == mac.String() }):
		d.Fail(key, "got %s, which another nic has already", s)
	}
	return mac
}

func (d *decoder) address(key, s string, mode Mode) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	if !mode.HasSubnet() {
		d.Fail(key, "got %s, but in mode %s qnet gives no address; allowed in: host-only, nat", strict.Quote(s), mode)
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		d.Fail(key, "got %s, allowed: an IPv4 address like 192.168.223.10", strict.Quote(s))
		return netip.Addr{}
	}
	return a
}

// networks merges the networks that NICs name with the [network.X] tables.
func (d *decoder) networks(nics []NIC, raws map[string]rawNetwork) map[string]Network {
	networks := map[string]Network{}
	for i, n := range nics {
		if n.Network == "" {
			continue
		}
		have, ok := networks[n.Network]
		if ok && have.Mode != n.Mode {
			d.Fail(fmt.Sprintf("nic[%d].mode", i), "got %s for network %q, which another nic has in mode %s: a network has one mode", n.Mode, n.Network, have.Mode)
			continue
		}
		networks[n.Network] = Network{Name: n.Network, Mode: n.Mode}
	}
	for name, raw := range raws {
		n, ok := networks[name]
		if !ok {
			d.Fail("network."+name, "no nic is on this network")
			continue
		}
		networks[name] = d.network(n, raw)
	}
	for i, n := range nics {
		if len(n.Forwards) > 0 && networks[n.Network].Macvtap {
			d.Fail(fmt.Sprintf("nic[%d].ports", i), "network %q has macvtap: host and guest do not reach each other; leave macvtap out, or reach the guest from the LAN", n.Network)
		}
	}
	return networks
}

// network adds a [network.X] table to a network of that mode.
func (d *decoder) network(n Network, raw rawNetwork) Network {
	key := "network." + n.Name
	n.Subnet = d.subnet(key+".subnet", raw.Subnet, n.Mode)
	n.Uplink = raw.Uplink
	if raw.Uplink != "" && n.Mode != NAT && n.Mode != Bridge {
		d.Fail(key+".uplink", "got %s, but mode %s has no uplink; allowed in: nat, bridge", strict.Quote(raw.Uplink), n.Mode)
	}
	n.Macvtap = raw.Macvtap
	if raw.Macvtap && n.Mode != Bridge {
		d.Fail(key+".macvtap", "got true, but network %q is in mode %s; allowed in: bridge", n.Name, n.Mode)
	}
	n.MTU = int(raw.MTU)
	if raw.MTU != 0 && n.Mode == Bridge {
		d.Fail(key+".mtu", "got %d, but mode %s has the MTU of the NIC it joins; allowed in: private, host-only, nat", raw.MTU, n.Mode)
	}
	n.Metadata = raw.Metadata
	if raw.Metadata && n.Mode != NAT {
		d.Fail(key+".metadata", "got true, but network %q is in mode %s; allowed in: nat", n.Name, n.Mode)
	}
	n.IPv6 = d.ipv6(key+".ipv6", raw.IPv6, n.Mode)
	n.Subnet6 = d.subnet6(key+".subnet6", raw.Subnet6, n)
	n.PXE = d.pxe(key+".pxe", raw.PXE, n.Mode)
	return n
}

func (d *decoder) pxe(key string, raw rawPXE, mode Mode) PXE {
	if raw == (rawPXE{}) {
		return PXE{}
	}
	if !mode.HasSubnet() {
		d.Fail(key, "mode %s has no DHCP server of qnet's; allowed in: host-only, nat", mode)
	}
	p := PXE{File: raw.File}
	if raw.Server != "" {
		var err error
		if p.Server, err = netip.ParseAddr(raw.Server); err != nil || !p.Server.Is4() {
			d.Fail(key+".server", "got %s, allowed: an IPv4 address like 192.168.223.1", strict.Quote(raw.Server))
		}
	}
	return p
}

func (d *decoder) subnet(key, s string, mode Mode) netip.Prefix {
	if s == "" {
		return netip.Prefix{}
	}
	if !mode.HasSubnet() {
		d.Fail(key, "got %s, but mode %s has no subnet of qnet's; allowed in: host-only, nat", strict.Quote(s), mode)
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(s)
	private := func(r netip.Prefix) bool { return r.Contains(p.Addr()) && p.Bits() >= r.Bits() }
	switch {
	case err != nil || !p.Addr().Is4():
		d.Fail(key, "got %s, allowed: an IPv4 prefix like 192.168.223.0/24", strict.Quote(s))
	case p.Bits() < minSubnet || p.Bits() > maxSubnet:
		d.Fail(key, "got %s, allowed: /%d to /%d", strict.Quote(s), minSubnet, maxSubnet)
	case p != p.Masked():
		d.Fail(key, "got %s, whose host bits are set; allowed: %s", strict.Quote(s), p.Masked())
	case !slices.ContainsFunc(rfc1918, private):
		d.Fail(key, "got %s, allowed: inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16", strict.Quote(s))
	default:
		return p
	}
	return netip.Prefix{}
}

// takenOnce fails the key of a NIC whose address another one has taken, and takes it.
func (d *decoder) takenOnce(taken map[netip.Addr]int, key string, a netip.Addr, nic int) {
	if other, ok := taken[a]; ok {
		d.Fail(key, "got %s, which nic[%d] has already", a, other)
	}
	taken[a] = nic
}

// addresses checks the NICs' addresses against their subnets and each other.
func (d *decoder) addresses(p *Profile) {
	taken := map[netip.Addr]int{}
	for i, n := range p.NICs {
		if !n.Address.IsValid() {
			continue
		}
		key := fmt.Sprintf("nic[%d].address", i)
		d.takenOnce(taken, key, n.Address, i)
		subnet := p.Networks[n.Network].Subnet
		if !subnet.IsValid() {
			if !d.Has("network." + n.Network + ".subnet") {
				d.Fail(key, "got %s, but the subnet is not pinned; add [network.%s] with subnet = ...", n.Address, n.Network)
			}
			continue
		}
		gateway := subnet.Addr().Next()
		if !subnet.Contains(n.Address) || n.Address == subnet.Addr() || n.Address == gateway || !subnet.Contains(n.Address.Next()) {
			d.Fail(key, "got %s, allowed: %s without its first, second (the host) and last address", n.Address, subnet)
		}
	}
}
