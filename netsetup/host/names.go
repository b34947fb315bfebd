package host

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// maxIfname is the longest name of a link, in bytes: IFNAMSIZ without the zero byte.
const maxIfname = 15

// BridgeName returns the name of a network's bridge: qn-<network>, of at most 15 bytes.
// A longer one ends in a hash.
func BridgeName(network string) string { return shorten("qn-"+network, maxIfname) }

// TapName returns the name of the tap of a VM's NIC: qn<vm><nic>, of at most 15 bytes. The
// NIC's index, 0 to 15, is one base-36 digit, so that no two NICs share a name.
func TapName(vm string, nic int) string {
	return shorten("qn"+vm, maxIfname-1) + strconv.FormatInt(int64(nic), 36)
}

// shorten keeps the readable beginning and ends it in a hash of the whole name.
func shorten(name string, limit int) string {
	if len(name) <= limit {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "-" + hex.EncodeToString(sum[:2])
	return name[:limit-len(tail)] + tail
}

// NetworkMark returns the ifalias of a network's bridge, which is the comment of its
// tables, too: "qnet:<network>".
func NetworkMark(network string) string { return filters.Mark(network) }

// PortMark returns the ifalias of the port of a VM's NIC: "qnet:<network>/<vm>/<nic>".
func PortMark(network, vm string, nic int) string {
	return NetworkMark(network) + "/" + vm + "/" + strconv.Itoa(nic)
}

// ParsePortMark reads an ifalias of PortMark.
func ParsePortMark(alias string) (network, vm string, nic int, ok bool) {
	words, ours := strings.CutPrefix(alias, NetworkMark(""))
	parts := strings.Split(words, "/")
	if !ours || len(parts) != 3 {
		return "", "", 0, false
	}
	nic, err := strconv.Atoi(parts[2])
	return parts[0], parts[1], nic, err == nil
}

// TableName returns the name of a network's nftables tables. With its prefix it is never
// a keyword of nft(8).
func TableName(network string) string { return "qnet_" + network }

// IPForward is the sysctl key that sets forwarding of all links, as a path below /proc/sys.
const IPForward = "net/ipv4/ip_forward"

// ForwardingKey returns the sysctl key of a link's IPv4 forwarding.
func ForwardingKey(link string) string { return "net/ipv4/conf/" + link + "/forwarding" }

// ForwardingLink returns the link of a key of ForwardingKey.
func ForwardingLink(key string) (string, bool) {
	link, ok := strings.CutPrefix(key, "net/ipv4/conf/")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(link, "/forwarding")
}

// Sysctls of a link's IPv6, by IPv6Key.
const (
	Forwarding      = "forwarding"
	ForceForwarding = "force_forwarding" // since kernel 6.17
	AcceptRA        = "accept_ra"
	// Solicitations is 0 on the bridge of a network whose guests the host forwards IPv6 for.
	Solicitations = "router_solicitations"
)

// IPv6Key returns the key of a sysctl of a link's IPv6, or with "all" and "default" of all links'
// and of new ones'.
func IPv6Key(link, name string) string { return "net/ipv6/conf/" + link + "/" + name }

// IPv6Link returns the link of a key of IPv6Key, for the names above.
func IPv6Link(key string) (link, name string, ok bool) {
	rest, ok := strings.CutPrefix(key, "net/ipv6/conf/")
	i := strings.LastIndexByte(rest, '/')
	if !ok || i < 0 || !slices.Contains([]string{Forwarding, ForceForwarding, AcceptRA}, rest[i+1:]) {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

// DisableIPv6Key returns the sysctl key that switches IPv6 off on a link.
func DisableIPv6Key(link string) string { return "net/ipv6/conf/" + link + "/disable_ipv6" }

// RPFilterKey returns the sysctl key of a link's IPv4 source validation (RFC 3704).
func RPFilterKey(link string) string { return "net/ipv4/conf/" + link + "/rp_filter" }

// GenModeKey returns the sysctl key of how the kernel makes a link's IPv6 addresses:
// IN6_ADDR_GEN_MODE_ of linux/if_link.h.
func GenModeKey(link string) string { return "net/ipv6/conf/" + link + "/addr_gen_mode" }
