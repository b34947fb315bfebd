package step

import (
	"context"
	"net/netip"
	"time"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
)

// Kernel is what steps act on: the kernel, and the programs on the host that steps
// talk to. Package kernel implements all parts; a fake implements those that its
// steps use. Calls end early, with the context's error, when the context ends.
type Kernel struct {
	Links
	Devices
	Addresses
	Routes
	Mover
	Sysctls
	Tables
	Filters
	Zones
	Resolver
	Managers

	// Warn passes a message to the user of the network.
	Warn func(text string)
}

// Links are the host's links, by name.
type Links interface {
	// Link returns false, and no error, where there is no link of the name.
	Link(ctx context.Context, name string) (host.Link, bool, error)
	ListLinks(ctx context.Context) ([]host.Link, error)
	// DelLinks deletes all of them in one request; links that are gone are no error.
	DelLinks(ctx context.Context, names []string) error
	// SetMaster makes the link a port of the bridge; with "" it is no port any more.
	SetMaster(ctx context.Context, link, bridge string) error
	SetUp(ctx context.Context, link string, up bool) error
	SetMTU(ctx context.Context, link string, mtu int) error
}

// Devices creates links, each with its mark.
type Devices interface {
	AddBridge(ctx context.Context, b AddBridge) error
	AddTap(ctx context.Context, name, alias string, mtu int) error
	AddMacvtap(ctx context.Context, m AddMacvtap) error
}

// Addresses are those of a link.
type Addresses interface {
	AddAddr(ctx context.Context, link string, p netip.Prefix) error
	Addrs(ctx context.Context, link string) ([]netip.Prefix, error) // IPv4
	// CarriesHost reports whether the bridge has an address that is not link-local.
	CarriesHost(ctx context.Context, bridge string) (bool, error)
}

// Routes are the host's routes and policy rules. Deleting one that is gone is no error.
type Routes interface {
	FIB(ctx context.Context) (host.FIB, error)
	AddPin(ctx context.Context, link string, guest netip.Addr) error
	DelPin(ctx context.Context, link string, guest netip.Addr) error
	AddPinRule(ctx context.Context, s PinRule) error
	DelPinRule(ctx context.Context, s PinRule) error
	ReplaceRoutes(ctx context.Context, link string, swaps []RouteSwap) error
}

// Mover moves the host between its NIC and a bridge, and asks whether that went well.
type Mover interface {
	MoveToBridge(ctx context.Context, m MoveToBridge) error
	MoveBack(ctx context.Context, m MoveToBridge) error
	// Ask returns which neighbors answer ARP and neighbor solicitations on the link.
	// It returns early when all of want have answered.
	Ask(ctx context.Context, link string, want []host.Neighbor, within time.Duration) ([]host.Neighbor, error)
}

// Sysctls are the files below /proc/sys, by their path there.
type Sysctls interface {
	Sysctl(ctx context.Context, key string) (string, error)
	SetSysctl(ctx context.Context, key, value string) error
}

// Tables are qnet's nftables tables.
type Tables interface {
	AddTable(ctx context.Context, t nft.Table) error
	// AdoptTable takes over a table that a dead keeper left, and adds one that is gone.
	AdoptTable(ctx context.Context, t nft.Table) error
	HasTable(ctx context.Context, t nft.Table) (bool, error)
	DelTable(ctx context.Context, t nft.Table) error
}

// Filters are other programs' packet filters.
type Filters interface {
	ReadFilters(ctx context.Context) (filters.Ruleset, error)
	InsertAccept(ctx context.Context, a filters.AcceptRule) error
	DeleteAccept(ctx context.Context, a filters.AcceptRule) error // one copy of the rule
}

// Zones are firewalld's. Where firewalld does not run, nothing happens.
type Zones interface {
	SetZone(ctx context.Context, z firewalld.Zone) error
	UnsetZone(ctx context.Context, z firewalld.Zone) error
	InZone(ctx context.Context, z firewalld.Zone) (bool, error)
}

// Resolver is systemd-resolved. Where it does not run, nothing happens.
type Resolver interface {
	TellResolved(ctx context.Context, link string, s resolved.Settings) error
	RevertResolved(ctx context.Context, link string) error
	TellResolvedBack(ctx context.Context, s LinkDNS) error
}

// Managers are the programs that configure the host's links.
type Managers interface {
	ReadConfig(ctx context.Context, path string) (string, error) // fs.ErrNotExist where there is none
	WriteConfig(ctx context.Context, path, text string) error    // makes its directory, too
	RemoveConfig(ctx context.Context, path string) error         // and the directory, if WriteConfig made it
	Reload(ctx context.Context, p managers.Program) error
	SetManaged(ctx context.Context, link string, managed bool) error // by NetworkManager
	Managed(ctx context.Context, link string) (bool, error)
}
