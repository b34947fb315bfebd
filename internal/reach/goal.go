// Package reach says whether a running VM can be reached, and if not, how far its guest has
// got and why, from what qnet sees of the guest (control.State). It asks the guest by ping
// or by a TCP connection, and changes nothing.
package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/profiles"
)

// Goal is what `qnet wait` waits for, beyond an address.
type Goal struct {
	Ping bool
	Port int // 0 = none
	// Untried says that an address is enough: the caller finds by itself whether the port answers.
	Untried bool
	Login   Login // what package sshclient finds out, once the port of SSH answers
}

// Login is what a login to the guest shows.
type Login string

// What a login shows, besides "" for no login.
const (
	CanLogIn Login = "ssh"  // that there is one
	Booted   Login = "boot" // that the guest has done its first boot, or has started all services
)

// Goals are the texts that ParseGoal reads, for messages.
const Goals = "address, ping, port:N, ssh, boot"

// ParseGoal reads one of Goals, N from 1 to 65535; ok is false for other texts.
func ParseGoal(s string) (g Goal, ok bool) {
	switch s {
	case "address":
		return Goal{}, true
	case "ping":
		return Goal{Ping: true}, true
	case string(CanLogIn), string(Booted):
		return Goal{Port: ssh, Login: Login(s)}, true
	}
	if number, ok := strings.CutPrefix(s, "port:"); ok {
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n < 65536 {
			return Goal{Port: n}, true
		}
	}
	return Goal{}, false
}

// String returns the goal as part of a sentence.
func (g Goal) String() string {
	switch {
	case g.Login == Booted:
		return "the end of the first boot"
	case g.Login != "":
		return "a login by SSH"
	case g.Ping:
		return "an answer to ping"
	case g.Port != 0:
		return fmt.Sprintf("port %d", g.Port)
	}
	return "an address"
}

// Reached asks the address.
func (g Goal) Reached(ctx context.Context, a netip.Addr) bool {
	switch {
	case g.Ping:
		return pings(ctx, a)
	case g.Port != 0 && !g.Untried:
		return dials(ctx, a, g.Port)
	}
	return true
}

// Impossible says why the VM cannot reach the goal, however long the user waits; "" if it
// may.
func (g Goal) Impossible(s control.State, nic control.NIC) string {
	if s.Launched() && !HasNetwork(s) {
		return Unseen
	}
	if g != (Goal{}) && nic.Mode == profiles.Private && !slices.ContainsFunc(s.NICs, reachable) {
		return "it is on a private network, which the host cannot reach"
	}
	return ""
}

// HasNetwork reports whether qnet sees the frames of at least one of the VM's NICs.
func HasNetwork(s control.State) bool {
	return slices.ContainsFunc(s.NICs, func(n control.NIC) bool { return n.Mode.NeedsNetwork() })
}

// ProgressOf says how far the VM and its guest have come.
func ProgressOf(s control.State, n control.NIC, address netip.Addr) string {
	switch {
	case s.State != control.Running:
		return "VM " + s.Status()
	case address.IsValid():
		return "address " + address.String()
	case n.Seen.Last() == guestwatch.Silent:
		return "QEMU running"
	}
	return n.Seen.Last().String()
}

// pings reports whether an address answers a ping within a second. Where the host cannot
// ask, it does not.
func pings(ctx context.Context, a netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	answers, err := packet.Ping(ctx, a)
	return answers && err == nil
}

// ssh is the TCP port of SSH.
const ssh = 22

// bannerTime is how long an SSH server may take to speak. It starts a process before it
// does, which takes seconds in a guest that still boots on a busy host under TCG.
const bannerTime = 10 * time.Second

// dials reports whether a server listens on the port.
func dials(ctx context.Context, address netip.Addr, port int) bool {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address.String(), strconv.Itoa(port)))
	if err != nil {
		return false
	}
	if port == ssh {
		// QEMU's user network and some load balancers accept though no server listens.
		// An SSH server speaks first (RFC 4253, section 4.2).
		c.SetReadDeadline(time.Now().Add(bannerTime)) //nolint:errcheck // the read fails then
		b := make([]byte, 4)
		_, err = io.ReadFull(c, b)
		if err == nil && !strings.HasPrefix(string(b), "SSH-") {
			err = errors.New("not SSH")
		}
	}
	return errors.Join(err, c.Close()) == nil
}

// Unseen says why qnet will never know a VM's address.
const Unseen = "it has no NIC on one of qnet's networks, so qnet sees no address of it"

// reachable reports whether the host can reach what is on the NIC's network.
func reachable(n control.NIC) bool { return n.Mode.NeedsNetwork() && n.Mode != profiles.Private }

// AddressOf returns the first NIC with an address that is not link-local, and that
// address; NICs that the host can reach come before others. Without an address it returns
// the NIC whose guest has come furthest, of those that the host can reach if there are any.
func AddressOf(s control.State) (control.NIC, netip.Addr) {
	var near, far []control.NIC
	for _, n := range s.NICs {
		if reachable(n) {
			near = append(near, n)
		} else {
			far = append(far, n)
		}
	}
	for _, n := range slices.Concat(near, far) {
		if list := n.Addresses(); len(list) > 0 && !list[0].IsLinkLocalUnicast() {
			return n, list[0]
		}
	}
	if len(near) == 0 {
		near = far
	}
	var furthest control.NIC
	for _, n := range near {
		if n.Seen.Last() > furthest.Seen.Last() || furthest.Mode == "" {
			furthest = n
		}
	}
	return furthest, netip.Addr{}
}
