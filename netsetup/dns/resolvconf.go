package dns

import (
	"net/netip"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/resolvconf"
)

// hostsConf is the file of the host's own name servers.
const hostsConf = "/etc/resolv.conf"

// resolvConf has the name servers of a file. It reads the file again when the last
// reading is older than every. The file is so short that to read it costs no more than
// to find out whether it changed, and reading it misses no change of a link, within one
// tick of the clock, or by a rename.
type resolvConf struct {
	path  string
	every time.Duration
	ask   func() resolvconf.Conf // instead of reading the file, unless nil

	mu   sync.Mutex // guards what follows
	read time.Time
	last resolvconf.Conf
}

// current returns the servers in order, never none.
func (r *resolvConf) current() []netip.Addr { return r.conf().Servers }

// tcpOnly reports whether the host asks its servers over TCP only.
func (r *resolvConf) tcpOnly() bool { return r.conf().TCP }

// conf returns what the file says, or what the host does without one: it asks the name
// server on itself (resolv.conf(5)).
func (r *resolvConf) conf() resolvconf.Conf {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.read.IsZero() || now.Sub(r.read) >= r.every {
		if r.ask == nil {
			r.last = resolvconf.Read(r.path)
		} else {
			r.last = r.ask()
		}
		r.read = now
		if r.last.Servers == nil {
			r.last.Servers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		}
	}
	return r.last
}
