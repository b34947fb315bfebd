package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/filters/iptables"
	"github.com/qnet-vm/qnet/netsetup/firewalld"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Sysctl reads a key, a path below /proc/sys (host.ReadSysctl).
func (h *Host) Sysctl(ctx context.Context, key string) (string, error) { return host.ReadSysctl(key) }

// SetSysctl writes a key, a path below /proc/sys.
//
//	sysctl -w KEY=VALUE
func (h *Host) SetSysctl(ctx context.Context, key, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
	if err == nil {
		return nil
	}
	cause := errors.Unwrap(err)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		cause = fmt.Errorf("%w: %w", host.ErrNoSysctls, cause)
	}
	if errors.Is(err, fs.ErrNotExist) {
		cause = fmt.Errorf("its link was deleted meanwhile, or the kernel has no such sysctl: %w", cause)
	}
	return fmt.Errorf("set sysctl %s to %s: %w", key, value, cause)
}

// AddTable creates the table, owned by this Host. It is ErrNotOurs where another program
// has a table of the name.
//
//	nft -f - <<< TABLE
func (h *Host) AddTable(ctx context.Context, t nft.Table) error {
	defer h.withRules()()
	return tableError(h.nft.Add(t))
}

// AdoptTable makes this Host the owner of a table that lost its owner. The table keeps its
// rules.
func (h *Host) AdoptTable(ctx context.Context, t nft.Table) error {
	defer h.withRules()()
	return tableError(h.nft.Adopt(t))
}

// HasTable reports whether the table exists with qnet's comment.
//
//	nft list table FAMILY NAME
func (h *Host) HasTable(ctx context.Context, t nft.Table) (bool, error) {
	defer h.withRules()()
	return h.nft.Has(t.Family, t.Name, t.Comment)
}

// MarkedTables returns the tables of a network and of its ports, by the network's mark.
//
//	nft list tables
func (h *Host) MarkedTables(ctx context.Context, mark string) ([]nft.Table, error) {
	defer h.withRules()()
	return h.nft.Marked(mark)
}

// DelTable deletes the table if it has qnet's comment, and does nothing otherwise.
//
//	nft delete table FAMILY NAME
func (h *Host) DelTable(ctx context.Context, t nft.Table) error {
	defer h.withRules()()
	err := h.nft.Delete(t.Family, t.Name, t.Comment)
	if errors.Is(err, nft.ErrNotOurs) {
		return nil
	}
	return err
}

// SetElements makes a set of an inet table of qnet hold the links or prefixes of set.
//
//	nft flush set inet TABLE SET; nft add element inet TABLE SET { ELEMENTS }
func (h *Host) SetElements(table string, set nft.Set) error {
	defer h.withRules()()
	return h.nft.SetElements(nft.INet, table, set)
}

// SetAddresses changes which addresses a set of one of this Host's tables has (nft.Conn.SetAddresses).
//
//	nft add element FAMILY TABLE SET { ADD }; nft delete element FAMILY TABLE SET { REMOVE }
func (h *Host) SetAddresses(t nft.Table, set string, add, remove []netip.Addr) error {
	defer h.withRules()()
	return h.nft.SetAddresses(t.Family, t.Name, set, add, remove)
}

// Addresses lists those in a set of a table, in no order.
//
//	nft list set FAMILY TABLE SET
func (h *Host) Addresses(t nft.Table, set string) ([]netip.Addr, error) {
	defer h.withRules()()
	return h.nft.Addresses(t.Family, t.Name, set)
}

// Prolong makes sets of an inet table of this Host hold addresses for a time (nft.Conn.Prolong).
// It may be called at any time, also concurrently.
//
//	nft add element inet TABLE SET { ADDRESS timeout TIME }
func (h *Host) Prolong(table string, list []nft.Passing) error {
	defer h.withRules()()
	return h.nft.Prolong(table, list)
}

func tableError(err error) error {
	if errors.Is(err, nft.ErrNotOurs) {
		return fmt.Errorf("%w: %w", host.ErrNotOurs, err)
	}
	return host.ExplainNFTables(err)
}

// ReadFilters reads other programs' packet filters, from a cache where none has changed. An
// error names what could not be read.
//
//	nft list ruleset; iptables-legacy-save
func (h *Host) ReadFilters(ctx context.Context) (filters.Ruleset, error) {
	r := h.filters.Ruleset()
	if len(r.Unread) > 0 {
		return r, fmt.Errorf("read packet filters: %s", strings.Join(r.Unread, "; "))
	}
	return r, nil
}

// InsertAccept puts an accept at the head of a chain of iptables (iptables.Insert).
func (h *Host) InsertAccept(ctx context.Context, a filters.AcceptRule) error {
	return host.Explain(iptables.Insert(ctx, a))
}

// DeleteAccept removes one copy of an accept (iptables.Delete).
func (h *Host) DeleteAccept(ctx context.Context, a filters.AcceptRule) error {
	return host.Explain(iptables.Delete(ctx, a))
}

// SetZone puts a link into a zone of firewalld.
//
//	firewall-cmd --zone=ZONE --add-interface=LINK
func (h *Host) SetZone(ctx context.Context, z firewalld.Zone) error { return firewalld.Add(ctx, z) }

// UnsetZone takes a link out of a zone of firewalld.
//
//	firewall-cmd --zone=ZONE --remove-interface=LINK
func (h *Host) UnsetZone(ctx context.Context, z firewalld.Zone) error {
	return firewalld.Remove(ctx, z)
}

// InZone reports whether a link is in a zone of firewalld.
//
//	firewall-cmd --zone=ZONE --query-interface=LINK
func (h *Host) InZone(ctx context.Context, z firewalld.Zone) (bool, error) {
	return firewalld.Has(ctx, z)
}
