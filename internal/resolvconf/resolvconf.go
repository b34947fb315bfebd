// Package resolvconf reads the name servers of resolv.conf(5). It changes nothing, and
// its functions may be called concurrently.
package resolvconf

import (
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// maxSize bounds what is read of a file, in bytes. Real ones are far shorter.
const maxSize = 64 << 10

// Nameservers returns the name servers of a file, each once, in their order; none if
// the file cannot be read or is no regular one. A link-local address has its zone.
func Nameservers(path string) []netip.Addr {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil // to open a pipe would wait for its writer
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return nil
	}
	return parse(string(text))
}

// parse reads the nameserver lines, and skips the others and those without an address.
func parse(text string) []netip.Addr {
	var servers []netip.Addr
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		addr, err := netip.ParseAddr(fields[1])
		if addr = addr.Unmap(); err == nil && !slices.Contains(servers, addr) {
			servers = append(servers, addr)
		}
	}
	return servers
}
