package host

import (
	"net/netip"
	"slices"

	"github.com/qnet-vm/qnet/netsetup/fib"
	"github.com/qnet-vm/qnet/netsetup/ways"
)

// GuestLink returns the link by which packets of a guest with that IPv4 address, behind a
// bridge of that name, leave to the Internet; ok is false if they do not. The bridge need not
// be there.
func (f Facts) GuestLink(bridge string, guest netip.Addr) (Link, bool) {
	all := fib.FIB{Rules: f.Rules, Routes: f.Outward}
	found := make([]ways.Way, 0, len(ways.Samples4))
	for _, to := range ways.Samples4 {
		if _, r, ok := all.RouteOf(fib.Packet{From: guest, To: to, In: bridge}); ok && r.Link != 0 {
			found = append(found, ways.Way{Link: r.Link})
		}
	}
	w, ok := ways.Most(found, len(ways.Samples4))
	if !ok {
		return Link{}, false
	}
	return f.LinkByIndex(w.Link)
}

// exit returns the link of a way, false where it is one of qnet's own that leads to guests.
func (f Facts) exit(w ways.Way) (Link, bool) {
	l, ok := f.LinkByIndex(w.Link)
	return l, ok && !l.Loopback && (!l.Ours() || f.onLAN(l))
}

// tunnel reports whether the link carries packets within packets of another link, as VPNs'
// links do.
func (l Link) tunnel() bool {
	return !l.Ethernet || slices.Contains([]string{"tun", "tuntap", "wireguard"}, l.Kind)
}

// isPort reports whether another link takes what comes in by the link, so that the host's IP
// does not see it. A VRF does not.
func (f Facts) isPort(l Link) bool {
	m, ok := f.LinkByIndex(l.Master)
	return ok && l.Master != 0 && m.Kind != "vrf"
}
