package filters

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Read takes the snapshot in the calling thread's network namespace. It needs
// CAP_NET_ADMIN; what cannot be read, all of it without that right, is told in
// Unread. Where nobody filters it costs a few system calls.
func Read() Ruleset {
	r := Ruleset{BridgeIPv4: bridgeCalls("iptables"), BridgeIPv6: bridgeCalls("ip6tables")}
	tables, err := readTables()
	r.unread(err, "nftables")
	legacy, err := readLegacy()
	r.unread(err, string(IPTablesLegacy))
	r.Tables = slices.Concat(tables, legacy)
	r.Programs = findPrograms(r.Tables)
	return r
}

func (r *Ruleset) unread(err error, what string) {
	switch {
	case err == nil:
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		r.Unread = append(r.Unread, fmt.Sprintf("the rules of %s cannot be read without root's rights", what))
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP): // there is none
	default:
		r.Unread = append(r.Unread, err.Error())
	}
}

// bridgeCalls reads whether br_netfilter shows bridged frames to an engine; where
// the module is not loaded, there is no such file.
//
//	sysctl net.bridge.bridge-nf-call-iptables
func bridgeCalls(engine string) bool {
	b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-" + engine)
	return err == nil && strings.TrimSpace(string(b)) != "0"
}
