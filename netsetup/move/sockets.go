package move

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
)

// connected returns the IPv6 addresses from which sockets of the host are connected.
//
//	ss -6tun state connected
func connected() map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, table := range []string{"tcp6", "udp6"} {
		b, _ := os.ReadFile("/proc/self/net/" + table) // without IPv6 there is none
		addConnected(used, string(b))
	}
	return used
}

// addConnected adds the local addresses of the connected sockets in a table of /proc/net/tcp6
// or udp6 (Documentation/networking/proc_net_tcp.rst).
func addConnected(used map[netip.Addr]bool, table string) {
	const established = "01" // TCP_ESTABLISHED of include/net/tcp_states.h, UDP has it too
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) < 4 || words[3] != established {
			continue
		}
		if a, ok := procAddr(words[1]); ok {
			used[a] = true
		}
	}
}

// procAddr reads "B80D0120000000000000000001000000:0016": four words in the machine's byte
// order, and a port.
func procAddr(text string) (netip.Addr, bool) {
	b, err := hex.DecodeString(text[:max(strings.IndexByte(text, ':'), 0)])
	if err != nil || len(b) != 16 {
		return netip.Addr{}, false
	}
	for i := 0; i < 16; i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	return a, ok
}
