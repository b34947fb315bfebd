// Package relay carries what comes to ports of the host to a guest's ports, and what the guest
// answers back. It needs no rights: the sockets are bound when it gets them. A VM's
// supervisor has one Relay for all its forwards.
//
// TCP is copied by the kernel where that can (splice(2)). The end of one direction is passed
// on while the other one goes on, and a reset as a reset, so that a guest's port on which
// nothing listens looks so. UDP has a flow for each client and address of the host that it
// asked, and the guest's answer leaves from that address.
package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/profiles/ports"
)

const (
	// mostLinks bounds the connections and flows of a VM, where the limit of open files does
	// not do that earlier.
	mostLinks = 8192
	// filesPerLink is how many files a connection may take: two sockets, and a pipe for
	// splice(2) in each direction.
	filesPerLink = 6
	// spareFiles are left to the rest of the process.
	spareFiles = 256
)

// Target returns where the guest listens now, and how long a dial may take. It is asked for
// each connection and each flow. The zero AddrPort means that the guest has no address: its
// clients are reset at once. It may be called by several goroutines.
type Target func() (to netip.AddrPort, within time.Duration)

// Count is what a forward has carried.
type Count struct {
	Connections int    `json:"connections"` // that are open now; of UDP, flows
	Total       uint64 `json:"total"`       // since the forward began
	In          uint64 `json:"in"`          // bytes to the guest
	Out         uint64 `json:"out"`         // bytes from the guest
}

// Relay is a VM's forwards. The zero Relay has none. Its methods may be called concurrently.
type Relay struct {
	mu       sync.Mutex
	forwards map[ports.Forward]forward
	seats    *seats
}

// forward is what serves one port. end ends its connections, and returns when its goroutines
// have ended.
type forward interface {
	end()
	count() Count
}

// Add begins to serve a forward by its socket, which is bound, and for TCP listens; a UDP
// socket reports the address that a packet came to (IP_PKTINFO in ip(7), IPV6_RECVPKTINFO in
// ipv6(7)). The relay owns the socket, also if Add fails.
func (r *Relay) Add(f ports.Forward, socket *os.File, to Target) error {
	defer socket.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seats == nil {
		r.forwards, r.seats = map[ports.Forward]forward{}, newSeats()
	}
	if _, ok := r.forwards[f]; ok || r.forwards == nil {
		return fmt.Errorf("forward %s: it is there already, or the VM ends", f)
	}
	var served forward
	var err error
	if f.Proto == "udp" {
		served, err = serveUDP(socket, to, r.seats)
	} else {
		served, err = serveTCP(socket, to, r.seats)
	}
	if err != nil {
		return fmt.Errorf("forward %s: take its socket: %w", f, err)
	}
	r.forwards[f] = served
	return nil
}

// Remove ends a forward: its port is closed, and its connections are reset. It reports whether
// there was one.
func (r *Relay) Remove(f ports.Forward) bool {
	r.mu.Lock()
	served, ok := r.forwards[f]
	delete(r.forwards, f)
	r.mu.Unlock()
	if ok {
		served.end()
	}
	return ok
}

// Count tells what a forward has carried: nothing, if there is none.
func (r *Relay) Count(f ports.Forward) Count {
	r.mu.Lock()
	served, ok := r.forwards[f]
	r.mu.Unlock()
	if !ok {
		return Count{}
	}
	return served.count()
}

// Close ends all forwards. There can be no others then.
func (r *Relay) Close() {
	r.mu.Lock()
	all := r.forwards
	r.forwards = nil
	if r.seats == nil {
		r.seats = &seats{}
	}
	r.mu.Unlock()
	for _, served := range all {
		served.end()
	}
}

// seats bound the connections and flows of all forwards.
type seats struct {
	most  int64
	taken atomic.Int64
}

func newSeats() *seats {
	s := &seats{most: mostLinks}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < mostLinks*filesPerLink+spareFiles {
		s.most = max((int64(limit.Cur)-spareFiles)/filesPerLink, 1) //nolint:gosec // it is small
	}
	return s
}

// take reports whether there was a seat.
func (s *seats) take() bool {
	if s.taken.Add(1) <= s.most {
		return true
	}
	s.taken.Add(-1)
	return false
}

func (s *seats) leave() { s.taken.Add(-1) }

// acceptPause is how long a server waits when it lacks files for a client.
const acceptPause = 50 * time.Millisecond

// over reports whether a socket's error is its end; else it waits a little.
func over(err error, done <-chan struct{}) bool {
	if errors.Is(err, net.ErrClosed) {
		return true
	}
	select {
	case <-done:
		return true
	case <-time.After(acceptPause):
		return false
	}
}
