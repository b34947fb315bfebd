package probe

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/packet"
)

// controlTime is how long the host itself waits for a reply that a guest did not get.
const controlTime = 700 * time.Millisecond

// hostReaches tries from the host what a guest tried. If that fails, too, the network is
// not at fault. A protocol that the host cannot try counts as reached.
func (r *run) hostReaches(ctx context.Context, f guest.Flow) bool {
	switch f.Protocol {
	case guest.TCP:
		d := net.Dialer{Timeout: controlTime}
		c, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(f.Dst, f.Port).String())
		if err == nil {
			c.Close()
		}
		return err == nil || !os.IsTimeout(err) && !strings.Contains(err.Error(), "no route")
	case guest.ICMP:
		return hostPings(ctx, f.Dst)
	}
	return true
}

// hostPings reports whether an address answers a ping from the host.
func hostPings(ctx context.Context, a netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	answers, err := packet.Ping(ctx, a)
	return answers || err != nil
}

// rpFiltered is how many packets rp_filter has dropped on the host.
//
//	nstat -az TcpExtIPReversePathFilter
func rpFiltered() uint64 {
	f, err := os.Open("/proc/net/netstat")
	if err != nil {
		return 0
	}
	defer f.Close()
	var names []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] != "TcpExt:" {
			continue
		}
		if names == nil {
			names = words
			continue
		}
		for i, name := range names {
			if name == "IPReversePathFilter" && i < len(words) {
				n, _ := strconv.ParseUint(words[i], 10, 64)
				return n
			}
		}
	}
	return 0
}
