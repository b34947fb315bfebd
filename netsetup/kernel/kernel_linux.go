package kernel

import (
	"fmt"
	"os"
	"sync"

	"github.com/qnet-vm/qnet/netsetup/filters/read"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/nft"
	"github.com/qnet-vm/qnet/netsetup/step"
)

// Host implements the interfaces of step.Kernel. It keeps the files of the taps that it made
// until TakeTap, and owns the nftables tables that it made.
type Host struct {
	taps    map[string]*os.File   // by the tap's name
	given   map[string][]*os.File // by GiveTap, one for each queue
	held    map[string]*os.File   // second files of given taps, see hold
	nft     *nft.Conn             // used by who holds rules
	rules   sync.Mutex
	warn    func(string)
	filters read.Cache
}

// New opens the sockets that a Host needs; the caller closes the Host. It returns
// ErrUnsupported where the kernel has no nftables.
func New() (*Host, error) {
	conn, err := nft.Dial()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", host.ErrUnsupported, err)
	}
	return &Host{taps: map[string]*os.File{}, given: map[string][]*os.File{}, held: map[string]*os.File{}, nft: conn, warn: func(string) {}}, nil
}

// Kernel returns the Host as steps see it.
func (h *Host) Kernel() step.Kernel {
	return step.Kernel{
		Links: h, Devices: h, BridgePorts: h, Addresses: h, Pins: h, Exits: h, Routes: h, Mover: h, Neighbors: h, Sysctls: h, Tables: h, Filters: h,
		Zones: h, Resolver: h, Managers: h, NetworkManager: h, Warn: func(text string) { h.warn(text) },
	}
}

// withRules begins the use of the nftables socket, and returns what ends it.
func (h *Host) withRules() (done func()) {
	h.rules.Lock()
	return h.rules.Unlock
}

// OnWarn makes f receive warnings for the user.
func (h *Host) OnWarn(f func(string)) { h.warn = f }

// Close closes the files of taps that TakeTap did not take, and gives up the ownership of
// the tables, which stay.
func (h *Host) Close() error {
	for _, files := range []map[string]*os.File{h.taps, h.held} {
		for name, f := range files {
			f.Close()
			delete(files, name)
		}
	}
	return h.nft.Close()
}
