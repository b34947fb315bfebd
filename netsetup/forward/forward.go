// Package forward is the forwards of a network: ports of the host that lead to a guest. It opens
// their sockets (Listen), and decides what rules help the relay that has these (Steps). A Forward
// is as profiles have it, its ranges expanded (package ports).
//
// Values may be used concurrently, and so may the functions.
package forward

import (
	"fmt"
	"net/netip"

	"github.com/qnet-vm/qnet/profiles/ports"
)

// Forward is a port of the host that leads to a guest's.
type Forward = ports.Forward

// The protocols of a forward.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Check refuses what no profile has. The error says what is allowed.
func Check(f Forward) error {
	switch a := f.Address; {
	case f.Proto != TCP && f.Proto != UDP:
		return fmt.Errorf("protocol %.20q, allowed: tcp, udp", f.Proto)
	case f.Port == 0 || f.Guest == 0:
		return fmt.Errorf("ports %d and %d, allowed: 1 to 65535", f.Port, f.Guest)
	case a.IsValid() && (a.IsMulticast() || a.Is4In6() || a.Zone() != "" || a == broadcast):
		return fmt.Errorf("address %.60s, allowed: one of the host's own, without a zone", a)
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("address %s, which is link-local and means a different machine on each link, allowed: another of the host's own", a)
	}
	return nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Outside reports whether other machines can reach the forward over IPv4: it listens at an
// address other than the loopback's, or at all.
func Outside(f Forward) bool {
	return !f.Address.IsValid() || f.Address.Is4() && !f.Address.IsLoopback()
}

// Twins reports whether one forward is at ::1, and the other is the same at 127.0.0.1: a profile
// that names no address asks for both.
func Twins(six, four Forward) bool {
	if six.Address != netip.IPv6Loopback() {
		return false
	}
	six.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return six == four
}
