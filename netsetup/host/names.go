package host

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/qnet-vm/qnet/netsetup/filters"
)

// maxIfname is IFNAMSIZ without the zero byte.
const maxIfname = 15

// BridgeName is the bridge of a network: qn-<network>, with a hash tail where
// that exceeds 15 bytes.
func BridgeName(network string) string { return shorten("qn-"+network, maxIfname) }

// TapName is the tap of a VM's NIC: qn<vm><nic>, the NIC's index (0 to 15) as
// one base-36 digit, so that no two pairs give the same name.
func TapName(vm string, nic int) string {
	return shorten("qn"+vm, maxIfname-1) + strconv.FormatInt(int64(nic), 36)
}

// shorten keeps the readable beginning and puts a hash of the whole behind it.
func shorten(name string, limit int) string {
	if len(name) <= limit {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	tail := "-" + hex.EncodeToString(sum[:2])
	return name[:limit-len(tail)] + tail
}

// NetworkMark is the ifalias of a network's bridge and the comment of its tables.
func NetworkMark(network string) string { return filters.Mark(network) }

func PortMark(network, vm string, nic int) string {
	return "qnet:" + network + "/" + vm + "/" + strconv.Itoa(nic)
}

// TableName is the name of a network's nftables tables. It never is an nft keyword, thanks to the prefix.
func TableName(network string) string { return "qnet_" + network }

// IPForward is the key that sets forwarding of all links.
const IPForward = "net/ipv4/ip_forward"

func ForwardingKey(link string) string { return "net/ipv4/conf/" + link + "/forwarding" }

// ForwardingLink is the link of such a key.
func ForwardingLink(key string) (string, bool) {
	link, ok := strings.CutPrefix(key, "net/ipv4/conf/")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(link, "/forwarding")
}

func DisableIPv6Key(link string) string { return "net/ipv6/conf/" + link + "/disable_ipv6" }

func RPFilterKey(link string) string { return "net/ipv4/conf/" + link + "/rp_filter" }

func GenModeKey(link string) string { return "net/ipv6/conf/" + link + "/addr_gen_mode" }

// PortOf reads the mark of a VM's port.
func PortOf(l Link) (network, vm string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(l.Alias, "qnet:"), "/")
	if !l.Ours() || len(parts) != 3 {
		return "", "", false
	}
	return parts[0], parts[1], true
}
