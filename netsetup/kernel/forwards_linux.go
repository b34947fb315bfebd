package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// ListForwards returns the forwards that a table has.
//
//	nft list map inet TABLE forward_any4
func (h *Host) ListForwards(ctx context.Context, f nft.Forwarding) ([]nft.Destination, error) {
	defer h.withRules()()
	return h.nft.Forwards(f)
}

// SetForwards adds forwards and deletes others in one transaction (nft.Conn.SetForwards), and has the kernel forget
// connections to their ports: it decides anew about the next packet of each. A UDP client that
// asked before the forward was there has its answer then, and a connection by a forward that is
// gone is reset. Connections through the host to the same ports of other machines stay. It is
// ErrUnsupported where the kernel lacks fib or dnat.
//
//	nft add element inet TABLE ...; conntrack -D -p tcp --orig-port-dst PORT -d ADDRESS
func (h *Host) SetForwards(ctx context.Context, f nft.Forwarding, add, del []nft.Destination) error {
	done := h.withRules()
	err := h.nft.SetForwards(f, add, del)
	done()
	if err != nil {
		return host.ExplainNFTables(err)
	}
	isTCP := func(f nft.Destination) bool { return f.Proto == "tcp" } // which begins with a packet of its own
	stale := append(slices.DeleteFunc(slices.Clone(add), isTCP), del...)
	if len(stale) == 0 {
		return nil
	}
	if err := forget(stale); err != nil {
		h.warn(fmt.Sprintf("connections from before may not follow the forwarded ports: %v", err))
	}
	return nil
}

// forget deletes the entries of connection tracking for connections to the forwards' ports.
// Without connection tracking, or a way to ask it, there are none.
func forget(forwards []nft.Destination) error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	flows := toForwards{wanted: map[nft.Destination]bool{}, own: map[netip.Addr]bool{}}
	for _, f := range forwards {
		f.Guest = netip.AddrPort{}
		flows.wanted[f] = true
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			address, _ := netip.AddrFromSlice(n.IP)
			flows.own[address.Unmap()] = true
		}
	}
	_, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, flows)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil
	}
	return err
}

// toForwards are the flows that came to the host for a forward.
type toForwards struct {
	wanted map[nft.Destination]bool // without their guests
	own    map[netip.Addr]bool      // the host's addresses
}

// MatchConntrackFlow reports whether the flow is one of them.
func (t toForwards) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	proto := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}[flow.Forward.Protocol]
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	at := nft.Destination{Address: to.Unmap(), Proto: proto, Port: flow.Forward.DstPort}
	anyone := at
	anyone.Address = netip.Addr{}
	return t.wanted[at] || t.own[at.Address] && t.wanted[anyone]
}
