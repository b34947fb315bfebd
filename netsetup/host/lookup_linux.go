package host

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CheckRoute asks the kernel whether it has a route for a packet that comes in by a link,
// by its name. It needs no rights. The error wraps the kernel's: EINVAL for a blackhole
// route and for what rp_filter refuses, ENETUNREACH or EHOSTUNREACH for no route, EACCES
// for a prohibited one.
//
//	ip route get DST from SRC iif LINK
func CheckRoute(dst, src netip.Addr, link string) error {
	_, err := netlink.RouteGetWithOptions(net.IP(dst.AsSlice()), &netlink.RouteGetOptions{Iif: link, SrcAddr: net.IP(src.AsSlice())})
	if err != nil {
		return fmt.Errorf("look up route to %s: %w", dst, err)
	}
	return nil
}

// NeighborFailed reports whether the host has asked for an IPv4 address by ARP and no
// neighbor has answered.
//
//	ip neigh show ADDRESS
func NeighborFailed(a netip.Addr) bool {
	f, err := os.Open("/proc/net/arp")
	if err != nil {
		return false
	}
	defer f.Close()
	return neighborFailed(bufio.NewScanner(f), a)
}

// neighborFailed reads the lines of /proc/net/arp: address, hardware type, flags, MAC,
// mask, link.
func neighborFailed(lines *bufio.Scanner, a netip.Addr) bool {
	asked := false
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || words[0] != a.String() {
			continue
		}
		if words[2] != "0x0" { // ATF_COM: the entry has a MAC
			return false
		}
		asked = true
	}
	return asked
}

// Tracked finds the connection from one IPv4 address to another and returns the address to
// which its answers go: src where no program translates it. It needs CAP_NET_ADMIN.
//
//	conntrack -L -s SRC -d DST
func Tracked(src, dst netip.Addr, protocol byte) (answersTo netip.Addr, ok bool) {
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, f := range flows {
		from, _ := netip.AddrFromSlice(f.Forward.SrcIP)
		to, _ := netip.AddrFromSlice(f.Forward.DstIP)
		if from.Unmap() == src && to.Unmap() == dst && f.Forward.Protocol == protocol {
			a, valid := netip.AddrFromSlice(f.Reverse.DstIP)
			return a.Unmap(), valid
		}
	}
	return netip.Addr{}, false
}
