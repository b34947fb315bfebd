package read

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/filters"
	"github.com/qnet-vm/qnet/netsetup/filters/iptables"
)

// Ruleset takes a snapshot in the network namespace of the calling thread. It needs
// CAP_NET_ADMIN. The field Unread says what it could not read, which without that right
// is everything. On a host without filters it costs a few system calls.
func Ruleset() filters.Ruleset {
	r := filters.Ruleset{BridgeIPv4: bridgeCalls("iptables"), BridgeIPv6: bridgeCalls("ip6tables")}
	tables, err := readNFTables()
	unread(&r, err, "nftables")
	legacy, err := readLegacy()
	unread(&r, err, string(filters.IPTablesLegacy))
	r.Tables = slices.Concat(tables, legacy)
	r.Programs = iptables.Programs(r.Tables)
	return r
}

func unread(r *filters.Ruleset, err error, what string) {
	switch {
	case err == nil:
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		r.Unread = append(r.Unread, fmt.Sprintf("the rules of %s cannot be read without root's rights", what))
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP): // there is none
	default:
		r.Unread = append(r.Unread, err.Error())
	}
}

// bridgeCalls reports whether br_netfilter shows bridged frames to an engine. The file
// is missing where the module is not loaded.
//
//	sysctl net.bridge.bridge-nf-call-iptables
func bridgeCalls(engine string) bool {
	b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-" + engine)
	return err == nil && strings.TrimSpace(string(b)) != "0"
}
