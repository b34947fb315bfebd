package step

import (
	"net/netip"
	"time"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/managers"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/resolved"
)

// Kernel is everything a step may do to the host. Links are named; a link that
// does not exist is no error for Link (ok is false) and for DelLinks.
type Kernel interface {
	Link(name string) (l host.Link, ok bool, err error)
	Links() ([]host.Link, error)
	AddBridge(b AddBridge) error
	AddTap(name, alias string, mtu int) error
	AddMacvtap(m AddMacvtap) error
	DelLinks(names []string) error       // all in one request
	SetMaster(link, bridge string) error // bridge "" = none
	SetUp(link string, up bool) error
	SetMTU(link string, mtu int) error
	AddAddr(link string, p netip.Prefix) error
	Addrs(link string) ([]netip.Prefix, error) // IPv4
	MoveToBridge(m MoveToBridge) error
	MoveBack(m MoveToBridge) error
	ReplaceRoutes(link string, swaps []Swap) error
	CarriesHost(bridge string) (bool, error)                                              // an address that is no link-local one
	Ask(link string, want []host.Neighbor, within time.Duration) ([]host.Neighbor, error) // who answers ARP and ND on the link
	Sysctl(key string) (string, error)                                                    // key as a path below /proc/sys
	SetSysctl(key, value string) error
	AddTable(t nft.Table) error
	AdoptTable(t nft.Table) error // takes over what a dead keeper left; adds what is not there
	HasTable(t nft.Table) (bool, error)
	DelTable(t nft.Table) error
	SetZone(z firewalld.Zone) error // of firewalld; nothing happens where that does not run
	UnsetZone(z firewalld.Zone) error
	InZone(z firewalld.Zone) (bool, error)
	TellResolved(link string, s resolved.Settings) error // nothing happens where it does not run
	RevertResolved(link string) error
	TellResolvedBack(s LinkDNS) error

	FIB() (host.FIB, error)
	AddPin(link string, guest netip.Addr) error
	DelPin(link string, guest netip.Addr) error // one that is gone is no error
	AddPinRule(s PinRule) error
	DelPinRule(s PinRule) error // nor here

	// Other programs' run-time configuration.
	ReadConfig(path string) (string, error) // fs.ErrNotExist where there is none
	WriteConfig(path, text string) error    // makes its directory, too
	RemoveConfig(path string) error         // and the directory, if WriteConfig made it
	Reload(p managers.Program) error
	SetManaged(link string, managed bool) error // by NetworkManager
	Managed(link string) (bool, error)
	Warn(text string)                  // tells the user
	Filters() (filters.Ruleset, error) // of others, as they are now
	InsertAccept(a filters.AcceptRule) error
	DeleteAccept(a filters.AcceptRule) error // one copy
}
