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

// RouteFor asks the kernel for the route of a packet that comes in by a link. The
// error is the kernel's: EINVAL for a blackhole route and for what rp_filter
// refuses, ENETUNREACH or EHOSTUNREACH for none, EACCES for a prohibited one.
//
//	ip route get DST from SRC iif LINK
func RouteFor(dst, src netip.Addr, link string) error {
	_, err := netlink.RouteGetWithOptions(net.IP(dst.AsSlice()), &netlink.RouteGetOptions{Iif: link, SrcAddr: net.IP(src.AsSlice())})
	if err != nil {
		return fmt.Errorf("look up route to %s: %w", dst, err)
	}
	return nil
}

// NeighborFailed reports whether the host has asked by ARP for an address and got
// no answer.
//
//	ip neigh show ADDRESS
func NeighborFailed(a netip.Addr) bool {
	f, err := os.Open("/proc/net/arp")
	if err != nil {
		return false
	}
	defer f.Close()
	asked := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || words[0] != a.String() {
			continue
		}
		if words[2] != "0x0" { // ATF_COM
			return false
		}
		asked = true
	}
	return asked
}

// Tracked finds the connection between two addresses and returns the address by which
// the answers come: the source's own where nothing translated it.
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
