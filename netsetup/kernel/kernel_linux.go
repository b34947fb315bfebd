package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/filters/iptables"
	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Host implements the parts of step.Kernel for the network namespace the process is in. It keeps the
// files of the taps it made until TakeTap, and owns the nftables tables.
type Host struct {
	taps    map[string]*os.File
	given   map[string][]*os.File // by GiveTap
	held    map[string]*os.File   // second files of given taps, see hold
	nft     *nft.Conn
	warn    func(string)
	filters read.Cache
}

// New opens the sockets it needs. It returns ErrUnsupported where the
// kernel has no nftables.
func New() (*Host, error) {
	conn, err := nft.Dial()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", host.ErrUnsupported, err)
	}
	return &Host{taps: map[string]*os.File{}, given: map[string][]*os.File{}, held: map[string]*os.File{}, nft: conn, warn: func(string) {}}, nil
}

// Kernel is the Host as steps see it.
func (h *Host) Kernel() step.Kernel {
	return step.Kernel{
		Links: h, Devices: h, Addresses: h, Pins: h, Routes: h, Mover: h, Neighbors: h, Sysctls: h, Tables: h, Filters: h,
		Zones: h, Resolver: h, Managers: h, NetworkManager: h, Warn: func(text string) { h.warn(text) },
	}
}

// OnWarn has what the user should know told to f.
func (h *Host) OnWarn(f func(string)) { h.warn = f }

// Close gives up taps nobody took, those given, and the ownership of the tables.
func (h *Host) Close() error {
	for _, files := range []map[string]*os.File{h.taps, h.held} {
		for name, f := range files {
			f.Close()
			delete(files, name)
		}
	}
	return h.nft.Close()
}

// TakeTap hands over the file of a tap this Host made, nil if there is none.
// The caller closes it; the tap lives as long as a file on it is open.
func (h *Host) TakeTap(name string) *os.File {
	f := h.taps[name]
	delete(h.taps, name)
	return f
}

// Link reads one link.
func (h *Host) Link(ctx context.Context, name string) (host.Link, bool, error) {
	l, err := netlink.LinkByName(name)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return host.Link{}, false, nil
	}
	if err != nil {
		return host.Link{}, false, fmt.Errorf("read link %q: %w", name, err)
	}
	return host.LinkFact(l), true, nil
}

// ListLinks reads all links at once.
//
//	ip -d link
func (h *Host) ListLinks(ctx context.Context) ([]host.Link, error) {
	list, err := dump.Whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	links := make([]host.Link, len(list))
	for i, l := range list {
		links[i] = host.LinkFact(l)
	}
	return links, nil
}

// bridge attributes (linux/if_link.h) that the netlink package has no fields for.
const (
	brForwardDelay  = 1 // IFLA_BR_FORWARD_DELAY, in 1/100 s
	brSTPState      = 5 // IFLA_BR_STP_STATE
	brMcastSnooping = 23
)

// AddBridge makes the bridge in one request, so that no other program sees it
// without its MAC (udev would give it one) or with STP on.
//
//	ip link add NAME address MAC mtu MTU type bridge stp_state 0 forward_delay 0 mcast_snooping 0
func (h *Host) AddBridge(ctx context.Context, b step.AddBridge) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(b.Name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, b.MAC))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(b.MTU))))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(brSTPState, nl.Uint32Attr(0))
	data.AddRtAttr(brForwardDelay, nl.Uint32Attr(0))
	data.AddRtAttr(brMcastSnooping, nl.Uint8Attr(0))
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("add bridge %q: %w", b.Name, host.Explain(err))
	}
	return h.setAlias(b.Name, b.Alias)
}

// setAlias marks a link: ip link set NAME alias ALIAS.
func (h *Host) setAlias(name, alias string) error {
	return h.withLink("set alias of", name, func(l netlink.Link) error { return netlink.LinkSetAlias(l, alias) })
}

// SetMaster makes a link a port of a bridge, or of none.
//
//	ip link set LINK master BRIDGE
//	ip link set LINK nomaster
func (h *Host) SetMaster(ctx context.Context, link, bridge string) error {
	if bridge == "" {
		return h.withLink("release", link, netlink.LinkSetNoMaster)
	}
	b, ok, err := h.Link(ctx, bridge)
	if err != nil {
		return err
	}
	if !ok {
		return host.Refuse("set %q master: there is no bridge %q", link, bridge)
	}
	err = h.withLink("set master of", link, func(l netlink.Link) error { return netlink.LinkSetMasterByIndex(l, b.Index) })
	if errors.Is(err, unix.EXFULL) {
		return fmt.Errorf("set %q master: bridge %q is full (1023 ports): %w", link, bridge, err)
	}
	return err
}

// SetUp sets a link up or down.
//
//	ip link set LINK up|down
func (h *Host) SetUp(ctx context.Context, link string, up bool) error {
	if up {
		return h.withLink("set up", link, netlink.LinkSetUp)
	}
	return h.withLink("set down", link, netlink.LinkSetDown)
}

// SetMTU sets a link's MTU.
//
//	ip link set LINK mtu MTU
func (h *Host) SetMTU(ctx context.Context, link string, mtu int) error {
	return h.withLink("set mtu of", link, func(l netlink.Link) error { return netlink.LinkSetMTU(l, mtu) })
}

// Gateways lists those of the default routes by a link, of all tables, each once.
//
//	ip route show table all default dev LINK
func (h *Host) Gateways(link int) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump.Whole(func() ([]netlink.Route, error) {
			by := &netlink.Route{LinkIndex: link, Table: unix.RT_TABLE_UNSPEC}
			return netlink.RouteListFiltered(family, by, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			gateway, ok := netip.AddrFromSlice(r.Gw)
			wide, _ := host.PrefixOf(r.Dst)
			if gateway = gateway.Unmap(); ok && wide.Bits() <= 0 && !slices.Contains(list, gateway) {
				list = append(list, gateway)
			}
		}
	}
	return list, nil
}

// GiveUpRouters has the kernel take the IPv6 gateways of a link for silent, so that
// of the routers it knows by advertisements it prefers another at once and not
// after half a minute. The first answer of theirs ends that.
//
//	ip -6 neigh replace GATEWAY dev LINK nud failed
func (h *Host) GiveUpRouters(l host.Link) error {
	gateways, err := h.Gateways(l.Index)
	if err != nil {
		return err
	}
	known, err := dump.Whole(func() ([]netlink.Neigh, error) { return netlink.NeighList(l.Index, unix.AF_INET6) })
	if err != nil {
		return fmt.Errorf("list neighbours of %q: %w", l.Name, err)
	}
	var errs []error
	for _, n := range known {
		a, _ := netip.AddrFromSlice(n.IP)
		if n.State&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 || !slices.Contains(gateways, a) {
			continue
		}
		n.State, n.HardwareAddr = unix.NUD_FAILED, nil
		if err := netlink.NeighSet(&n); err != nil {
			errs = append(errs, fmt.Errorf("set neighbour %s of %q: %w", a, l.Name, err))
		}
	}
	return errors.Join(errs...)
}

// AddrsOf lists a link's addresses, IPv4 and IPv6, that can be used.
//
//	ip addr show dev LINK
func (h *Host) AddrsOf(link int) ([]netip.Addr, error) {
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var list []netip.Addr
	for _, a := range addrs {
		p, ok := host.PrefixOf(a.IPNet)
		if ok && a.LinkIndex == link && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			list = append(list, p.Addr())
		}
	}
	return list, nil
}

// AddAddr adds an address with its prefix's broadcast address.
//
//	ip addr add PREFIX broadcast + dev LINK
func (h *Host) AddAddr(ctx context.Context, link string, p netip.Prefix) error {
	bits := net.CIDRMask(p.Bits(), 32)
	ip := net.IP(p.Addr().AsSlice())
	broadcast := make(net.IP, 4)
	for i := range broadcast {
		broadcast[i] = ip[i] | ^bits[i]
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: bits}, Broadcast: broadcast}
	return h.withLink("add address "+p.String()+" to", link, func(l netlink.Link) error { return netlink.AddrAdd(l, addr) })
}

// Addrs lists a link's IPv4 addresses; none where there is no such link.
//
//	ip -4 addr show dev LINK
func (h *Host) Addrs(ctx context.Context, link string) ([]netip.Prefix, error) {
	l, err := netlink.LinkByName(link)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses of %q: %w", link, err)
	}
	addrs, err := dump.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %q: %w", link, err)
	}
	var list []netip.Prefix
	for _, a := range addrs {
		if p, ok := host.PrefixOf(a.IPNet); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

// Sysctl reads a key, a path below /proc/sys.
func (h *Host) Sysctl(ctx context.Context, key string) (string, error) { return host.ReadSysctl(key) }

// SetSysctl writes a key.
//
//	sysctl -w KEY=VALUE
func (h *Host) SetSysctl(ctx context.Context, key, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", key, value, errors.Unwrap(err))
	}
	return nil
}

// AddTable creates the table and owns it.
//
//	nft -f - <<< TABLE
func (h *Host) AddTable(ctx context.Context, t nft.Table) error { return notOurs(h.nft.Add(t)) }

// AdoptTable makes a table that lost its owner this Host's, with the rules it has.
func (h *Host) AdoptTable(ctx context.Context, t nft.Table) error { return notOurs(h.nft.Adopt(t)) }

// HasTable reports whether the table is there and bears our comment.
//
//	nft list table FAMILY NAME
func (h *Host) HasTable(ctx context.Context, t nft.Table) (bool, error) {
	return h.nft.Has(t.Family, t.Name, t.Comment)
}

// DelTable deletes the table if it bears our comment and leaves it alone otherwise.
//
//	nft delete table FAMILY NAME
func (h *Host) DelTable(ctx context.Context, t nft.Table) error {
	err := h.nft.Delete(t.Family, t.Name, t.Comment)
	if errors.Is(err, nft.ErrNotOurs) {
		return nil
	}
	return err
}

// ReadFilters reads others' packet filters, where they have changed.
//
//	nft list ruleset; iptables-legacy-save
func (h *Host) ReadFilters(ctx context.Context) (filters.Ruleset, error) {
	r := h.filters.Ruleset()
	if len(r.Unread) > 0 {
		return r, fmt.Errorf("read packet filters: %s", strings.Join(r.Unread, "; "))
	}
	return r, nil
}

// InsertAccept puts an accept at the head of a chain of iptables' (iptables.Insert).
func (h *Host) InsertAccept(ctx context.Context, a filters.AcceptRule) error {
	return host.Explain(iptables.Insert(ctx, a))
}

// DeleteAccept removes one copy of it (iptables.Delete).
func (h *Host) DeleteAccept(ctx context.Context, a filters.AcceptRule) error {
	return host.Explain(iptables.Delete(ctx, a))
}

// SetLinks makes a set of an inet table of ours hold those links.
//
//	nft flush set inet TABLE SET; nft add element inet TABLE SET { LINKS }
func (h *Host) SetLinks(table, set string, links []string) error {
	return h.nft.SetLinks(nft.INet, table, set, links)
}

// SetZone puts a link into a zone of firewalld.
//
//	firewall-cmd --zone=ZONE --add-interface=LINK
func (h *Host) SetZone(ctx context.Context, z firewalld.Zone) error { return firewalld.Add(ctx, z) }

// UnsetZone takes it out.
//
//	firewall-cmd --zone=ZONE --remove-interface=LINK
func (h *Host) UnsetZone(ctx context.Context, z firewalld.Zone) error {
	return firewalld.Remove(ctx, z)
}

// InZone reports whether it is in.
//
//	firewall-cmd --zone=ZONE --query-interface=LINK
func (h *Host) InZone(ctx context.Context, z firewalld.Zone) (bool, error) {
	return firewalld.Has(ctx, z)
}

func notOurs(err error) error {
	if errors.Is(err, nft.ErrNotOurs) {
		return fmt.Errorf("%w: %w", host.ErrNotOurs, err)
	}
	return host.Explain(err)
}

func (h *Host) withLink(verb, name string, do func(netlink.Link) error) error {
	l, err := netlink.LinkByName(name)
	if err == nil {
		err = do(l)
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", verb, name, host.Explain(err))
	}
	return nil
}
