package dns

import (
	"net/netip"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/resolvconf"
)

// resolvConf has the name servers of a file. It reads the file again when the last
// reading is older than every. The file is so short that to read it costs no more than
// to find out whether it changed, and reading it misses no change of a link, within one
// tick of the clock, or by a rename.
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
		r.servers, r.read = resolvconf.Nameservers(r.path), now
	}
	return r.servers
}
