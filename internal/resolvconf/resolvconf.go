// Package resolvconf reads what resolv.conf(5) says of name servers. It changes nothing, and
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

// Conf is what a file says of name servers.
type Conf struct {
	Servers []netip.Addr // each once, in their order; a link-local address has its zone
	TCP     bool         // "options use-vc": they are asked over TCP only
}

// Nameservers returns the servers of Read.
func Nameservers(path string) []netip.Addr { return Read(path).Servers }

// Read reads a file. One that cannot be read, or is no regular one, says nothing.
func Read(path string) Conf {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return Conf{} // to open a pipe would wait for its writer
	}
	f, err := os.Open(path)
	if err != nil {
		return Conf{}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return Conf{}
	}
	return parse(string(text))
}

// parse reads the lines with a name server or an option, and skips the others and those
// without an address.
func parse(text string) Conf {
	var c Conf
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "options":
			c.TCP = c.TCP || slices.Contains(fields, "use-vc") || slices.Contains(fields, "usevc")
		case "nameserver":
			addr, err := netip.ParseAddr(fields[1])
			if addr = addr.Unmap(); err == nil && !slices.Contains(c.Servers, addr) {
				c.Servers = append(c.Servers, addr)
			}
		}
	}
	return c
}
