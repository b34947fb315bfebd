package dns

import (
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxResolvConf is where reading stops, in bytes: no such file is so long.
const maxResolvConf = 64 << 10

// resolvConf is the list of name servers in a file. The file is read again when
// it is asked for and the last reading is older than every: it is so short that
// to read it costs no more than to find out whether it changed, and no change of
// a link, of a file within one tick of the clock, or by a rename is overlooked.
type resolvConf struct {
	path  string
	every time.Duration

	mu      sync.Mutex // guards what follows
	read    time.Time
	servers []netip.Addr
}

// current returns the servers in order; none if the file cannot be read.
func (r *resolvConf) current() []netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.read.IsZero() || now.Sub(r.read) >= r.every {
		r.servers, r.read = nameservers(readFile(r.path)), now
	}
	return r.servers
}

// readFile returns what can be read of a regular file.
func readFile(path string) string {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "" // to open a pipe would wait for its writer
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return ""
	}
	return string(text)
}

// nameservers reads the lines of resolv.conf(5) that name a server, and skips the
// others and what is no address.
func nameservers(text string) []netip.Addr {
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
