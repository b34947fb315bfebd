package move

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
)

// sources are the IPv6 addresses from which the host's sockets are connected.
func sources() map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, table := range []string{"tcp6", "udp6"} {
		b, _ := os.ReadFile("/proc/self/net/" + table) // without IPv6 there is none
		for line := range strings.Lines(string(b)) {
			words := strings.Fields(line)
			if len(words) < 4 || words[3] != "01" { // ESTABLISHED
				continue
			}
			if a, ok := procAddr(words[1]); ok {
				used[a] = true
			}
		}
	}
	return used
}

// procAddr reads "B80D0120000000000000000001000000:0016": four words of the
// machine's byte order, and a port.
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
