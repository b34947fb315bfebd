// Package hosttest has the facts of made-up hosts, for tests of what is decided from facts.
// All functions are pure; what they return belongs to the caller.
package hosttest

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/resolved"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
	"github.com/qnet-vm/qnet/netsetup/ways"
)

// Salt is a host's salt, from which MACs and subnets derive.
var Salt = []byte("a salt of the tests")

func prefixes(list ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range list {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// Laptop returns the facts of a host with a NIC, Wi-Fi, Docker's bridge, a free NIC and an
// administrator's bridge.
func Laptop() host.Facts {
	nic := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	f := host.Facts{
		Links: []host.Link{
			{Index: 1, Name: "lo", Kind: "device", Loopback: true, Up: true, MTU: 65536, Addresses: prefixes("127.0.0.1/8")},
			{Index: 2, Name: "eth0", Kind: "device", Ethernet: true, Up: true, Carrier: true, MTU: 1500, MAC: nic, Addresses: prefixes("192.0.2.10/24", "fe80::1/64")},
			{Index: 3, Name: "wlan0", Kind: "device", Ethernet: true, Wireless: true, Up: true, MTU: 1500},
			{Index: 4, Name: "docker0", Kind: "bridge", Ethernet: true, Up: true, Carrier: true, MTU: 1500, Addresses: prefixes("172.17.0.1/16")},
			{Index: 5, Name: "eth1", Kind: "device", Ethernet: true, MTU: 9000, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}, Addresses: prefixes("fe80::5/64")},
			{Index: 6, Name: "br0", Kind: "bridge", Ethernet: true, Up: true, Carrier: true, MTU: 1500, STP: true},
			{Index: 7, Name: "eth2", Kind: "device", Ethernet: true, Up: true, Carrier: true, MTU: 1500, Master: 6},
			{Index: 8, Name: "tun0", Kind: "tun", Up: true, Carrier: true, MTU: 1420, Addresses: prefixes("10.200.0.2/32")},
			{Index: 9, Name: "eth3", Kind: "device", Ethernet: true, Up: true, MTU: 1500},
			{Index: 10, Name: "mv0", Kind: "macvlan", Ethernet: true, Up: true, MTU: 1500, Parent: 9},
			{Index: 11, Name: "eth5", Kind: "device", Ethernet: true, Up: true, MTU: 1500},
			{Index: 12, Name: "ipv0", Kind: "ipvlan", Ethernet: true, Up: true, MTU: 1500, Parent: 11},
		},
		Routes: []host.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "eth0", Table: 254},
			{Dst: netip.MustParsePrefix("192.0.2.0/24"), Link: "eth0", Table: 254},
			{Dst: netip.MustParsePrefix("172.17.0.0/16"), Link: "docker0", Table: 254},
			{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: "tun0", Table: 254},
			{Dst: netip.MustParsePrefix("192.168.64.0/18"), Link: "tun0", Table: 51820},
		},
		Rules: []fib.Rule{
			{Table: 255, Suppress: -1}, {Priority: 32766, Table: fib.MainTable, Suppress: -1}, {Priority: 32767, Table: 253, Suppress: -1},
		},
		Ways:      []ways.Way{{Link: 2, Via: netip.MustParseAddr("192.0.2.1")}},
		Outward:   []fib.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Table: fib.MainTable, Link: 2}},
		Resolvers: []netip.Addr{netip.MustParseAddr("192.168.200.53")},
		Sysctls:   map[string]string{},
		HasIPv6:   true,
	}
	for _, l := range f.Links {
		f.Sysctls[host.ForwardingKey(l.Name)] = "0"
	}
	f.Sysctls[host.ForwardingKey("tun0")] = "1"
	return f
}

// heldAddress returns an address of the laptop's eth0 as the kernel lists it. A label makes
// it one of IPv4.
func heldAddress(prefix, label string, flags uint32) rtnl.Address {
	p := netip.MustParsePrefix(prefix)
	m := rtnl.Message{family(p.Addr()), byte(p.Bits()), 0, 0, 2, 0, 0, 0}
	m = rtnl.Append(m, rtnl.Attr{Type: unix.IFA_ADDRESS, Value: p.Addr().AsSlice()})
	if label != "" {
		m = rtnl.Append(m, rtnl.Attr{Type: unix.IFA_LOCAL, Value: p.Addr().AsSlice()}, rtnl.String(unix.IFA_LABEL, label))
	}
	a := rtnl.Address{Message: rtnl.Append(m, rtnl.Uint32(unix.IFA_FLAGS, flags))}
	return a.WithLifetimes(rtnl.Lifetimes{Preferred: rtnl.Forever, Valid: rtnl.Forever})
}

// heldDefault returns a default route by the laptop's eth0 as the kernel lists it.
func heldDefault(gateway string, metric uint32) rtnl.Route {
	gw := netip.MustParseAddr(gateway)
	m := rtnl.Message{family(gw), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	m = rtnl.Append(m, rtnl.Attr{Type: unix.RTA_GATEWAY, Value: gw.AsSlice()}, rtnl.Uint32(unix.RTA_OIF, 2))
	if metric != 0 {
		m = rtnl.Append(m, rtnl.Uint32(unix.RTA_PRIORITY, metric))
	}
	return rtnl.Route{Message: m}
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Settled returns the facts of the laptop, whose eth0 has static addresses of both families and is not asked which
// gateways answer.
func Settled() host.Facts {
	f := Laptop()
	f.NIC = host.NIC{
		Held: host.Holdings{
			Index: 2,
			Addrs: []rtnl.Address{
				heldAddress("192.0.2.10/24", "eth0", unix.IFA_F_PERMANENT),
				heldAddress("192.0.2.11/24", "eth0:1", unix.IFA_F_PERMANENT|unix.IFA_F_SECONDARY),
				heldAddress("2001:db8::10/64", "", unix.IFA_F_PERMANENT),
			},
			Routes: []rtnl.Route{heldDefault("192.0.2.1", 0), heldDefault("2001:db8::1", 1024)},
			First:  []bool{false, false},
		},
		Sysctls:  []host.LinkSysctl{{Dir: "net/ipv4/conf", Name: "arp_notify", Value: "1"}},
		RPFilter: "0", GenMode: "0",
		DNS: resolved.Settings{
			Servers: []resolved.Server{{Address: netip.MustParseAddr("192.0.2.53")}},
			Domains: []resolved.Domain{{Name: "lan.example"}},
		},
	}
	return f
}

// GuestMAC is the MAC of a VM's NIC.
var GuestMAC = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}

// TwoISPs returns the facts of the laptop with a second default route, by eth1, which checks the
// source of packets strictly.
func TwoISPs() host.Facts {
	f := Laptop()
	f.Links[4].Up, f.Links[4].Carrier, f.Links[4].Addresses = true, true, prefixes("198.51.100.10/24")
	f.Routes = append(f.Routes, host.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: "eth1", Via: netip.MustParseAddr("198.51.100.1"), Table: fib.MainTable})
	f.Outward = append(f.Outward, fib.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Table: fib.MainTable, Link: 5, Metric: 500})
	f.Sysctls[host.RPFilterKey("all")], f.Sysctls[host.RPFilterKey("eth1")] = "1", "0"
	return f
}

// Facts returns the facts of the host of that name: Settled for "move", TwoISPs for "pinned",
// else Laptop.
func Facts(name string) host.Facts {
	switch name {
	case "move":
		return Settled()
	case "pinned":
		return TwoISPs()
	case "nat-ipv6":
		return IPv6(Laptop(), true)
	case "nat-ipv6-all":
		return IPv6(Laptop(), false)
	}
	return Laptop()
}

// IPv6 is the host with a default route of IPv6 by a router advertisement on eth0, and a kernel
// with force_forwarding or without.
func IPv6(f host.Facts, byLink bool) host.Facts {
	eth0, _ := f.Link("eth0")
	f.HasIPv6 = true
	f.Ways = append(f.Ways, ways.Way{Link: eth0.Index, IPv6: true})
	f.Routes6 = []host.Route{{Dst: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Link: "eth0", Via: netip.MustParseAddr("fe80::1"), Table: fib.MainTable, RA: true}}
	for _, l := range []string{"all", "default"} {
		f.Sysctls[host.IPv6Key(l, host.Forwarding)] = "0"
	}
	if byLink {
		f.Sysctls[host.IPv6Key("all", host.ForceForwarding)] = "0"
	}
	for _, l := range f.Links {
		if l.Loopback || l.Ours() {
			continue
		}
		f.Sysctls[host.IPv6Key(l.Name, host.AcceptRA)] = "0"
		if l.Name == "eth0" {
			f.Sysctls[host.IPv6Key(l.Name, host.AcceptRA)] = "1"
		}
		if byLink {
			f.Sysctls[host.IPv6Key(l.Name, host.ForceForwarding)] = "0"
		}
	}
	return f
}
