// Package control is the control socket of a running VM: the protocol, its client and
// its server.
//
// The supervisor of a VM serves the socket; `qnet ps`, `stop`, `console` and others
// are the clients. A client sends one request, a line of JSON. The replies are lines
// of JSON, or after "console" the bytes of the guest's serial console, both ways.
//
//	status   one State
//	stop     replies: at once the version of the protocol, then each rung of the
//	         shutdown ladder, the end of QEMU, and last how the undo went
//	console  the console
//	do       replies: what the operation does, and its result or error; after an
//	         operation that ends the VM, the replies of stop
//
// The connection of a "stop" stays open until the supervisor's process has ended. A
// connection that ends without the last reply tells that the supervisor died.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/internal/relay"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// Errors that callers test for.
var (
	// ErrNotRunning is wrapped by errors about a VM without a supervisor.
	ErrNotRunning = errors.New("it is not running")
	// ErrDied is wrapped by the error of Stop when the supervisor ended before it had
	// undone what it changed on the host.
	ErrDied = errors.New("its supervisor died before everything was undone")
	// ErrNotUndone is what an UndoError is.
	ErrNotUndone = errors.New("not everything was undone")
)

// UndoError tells that a VM has ended, and that something which its supervisor or a
// keeper changed on the host could not be undone. `qnet gc` tries again.
//
// It does not unwrap: the kind of the cause says nothing about what the user asked for.
type UndoError struct {
	VM  string
	Err error
}

// Error names the VM and the cause.
func (e *UndoError) Error() string {
	return fmt.Sprintf("VM %q has ended, but %v: %v", e.VM, ErrNotUndone, e.Err)
}

// Is reports whether the target is ErrNotUndone.
func (e *UndoError) Is(target error) bool { return target == ErrNotUndone }

// Phase is how far a VM's life has come.
type Phase string

// The phases, in their order.
const (
	Starting Phase = "starting" // until the vCPUs run
	Running  Phase = "running"
	Stopping Phase = "stopping" // from the first request to stop it
)

// The phases of a VM whose guest stands still, between Running and Stopping. They pass, or
// do not.
const (
	Paused    Phase = "paused"    // State.Reason says why
	Suspended Phase = "suspended" // the guest sleeps
	Panicked  Phase = "panicked"  // the guest's kernel crashed
)

// State describes a VM.
type State struct {
	Name    string    `json:"name"`
	State   Phase     `json:"state"`
	Reason  string    `json:"reason,omitempty"`  // why it is paused: "no space: web.qcow2"
	Disks   []string  `json:"disks,omitempty"`   // files of the disks that paused it
	Profile string    `json:"profile"`           // path of the file
	Allowed []string  `json:"allowed,omitempty"` // folders that the profile may name besides its own
	Accel   string    `json:"accel,omitempty"`
	PID     int       `json:"pid"`            // the supervisor's
	QEMU    int       `json:"qemu,omitempty"` // QEMU's pid
	Started time.Time `json:"started"`
	Disk    string    `json:"disk,omitempty"`   // on which the guest's host keys are, or this run; "" before qnet knew it
	Guest   *Guest    `json:"guest,omitempty"`  // nil if qnet told the guest nothing at its first boot
	Screen  string    `json:"screen,omitempty"` // path of the socket that speaks VNC; "" without one
	// Confined tells what confines QEMU; nil before QEMU runs, and of older supervisors.
	Confined *sandbox.Report `json:"confined,omitempty"`
	GDB      string          `json:"gdb,omitempty"` // path of the socket for gdb; "" without one
	NICs     []NIC           `json:"nics"`
}

// Guest is what qnet told a guest at its first boot, and its clients need to log in.
type Guest struct {
	User     string   `json:"user"`      // account for logins
	Identity string   `json:"identity"`  // path of the private key that it lets in
	HostKeys []string `json:"host_keys"` // public keys of its SSH server
}

// Status is how far the VM has come, and in parentheses why it stands still, if it does:
// "paused (no space: web.qcow2)".
func (s State) Status() string {
	if s.Reason == "" {
		return string(s.State)
	}
	return fmt.Sprintf("%s (%s)", s.State, s.Reason)
}

// Launched reports whether the VM's guest was let run and nobody asked for its end.
func (s State) Launched() bool { return s.State != Starting && s.State != Stopping }

// NIC describes one NIC of a VM.
type NIC struct {
	Index   int           `json:"index"` // in the profile
	Mode    profiles.Mode `json:"mode"`
	Network string        `json:"network,omitempty"`
	Bridge  string        `json:"bridge,omitempty"`
	Tap     string        `json:"tap,omitempty"`
	MAC     MAC           `json:"mac"`
	Address netip.Addr    `json:"address,omitzero"` // host-only and nat: reserved for it

	Address6 netip.Addr `json:"address6,omitzero"` // reserved for it by DHCPv6, on a network with IPv6

	Unguarded bool `json:"unguarded,omitempty"` // guard = "off"

	Forwards []Forward `json:"forwards,omitempty"` // ports of the host that lead to it

	Seen guestwatch.State `json:"seen,omitzero"` // what the guest does on it
}

// Forward describes a forward to a NIC.
type Forward struct {
	Proto   string     `json:"proto"`            // "tcp" or "udp"
	Address netip.Addr `json:"address,omitzero"` // of the host; zero is all
	Port    uint16     `json:"port"`             // of the host
	Guest   uint16     `json:"guest"`            // the guest's port
	How     string     `json:"how"`              // one of the By constants

	// Carried is what the relay has carried; nil where QEMU does all. What DNAT carries is not
	// in it.
	Carried *relay.Count `json:"carried,omitempty"`
}

// How a forward is done.
const (
	ByRelay   = keeper.ByRelay // the supervisor passes on what comes to a socket: the guest sees the host
	ByDNAT    = keeper.ByDNAT  // the same, but what comes from other machines by IPv4 goes by DNAT: the guest sees them
	ByHostfwd = "hostfwd"      // QEMU's user network
)

// ForwardArgs are the arguments of the operations "forward add" and "forward rm".
type ForwardArgs struct {
	Ports []string `json:"ports"`         // as in a profile
	NIC   *int     `json:"nic,omitempty"` // index in the profile; nil for the first that may have any
}

// Addresses returns the addresses that the guest has shown, the one it showed last
// first, IPv4 before IPv6. The reserved one comes first once the guest uses it.
func (n NIC) Addresses() []netip.Addr {
	list := slices.Clone(n.Seen.Addresses)
	if i := slices.Index(list, n.Address); i > 0 {
		list = slices.Insert(slices.Delete(list, i, i+1), 0, n.Address)
	}
	return list
}

// IPv6 returns the IPv6 addresses that the guest has shown, none of them link-local, the best first:
// the reserved one, the one that its MAC makes, the newest.
func (n NIC) IPv6() []netip.Addr {
	list := n.Seen.IPv6()
	firsts := []netip.Addr{n.Address6}
	if i := slices.IndexFunc(list, func(a netip.Addr) bool {
		return len(n.MAC) == 6 && a == packet.EUI64(netip.PrefixFrom(a, 64), net.HardwareAddr(n.MAC))
	}); i >= 0 {
		firsts = []netip.Addr{list[i], n.Address6}
	}
	for _, first := range firsts {
		if i := slices.Index(list, first); i > 0 {
			list = slices.Insert(slices.Delete(list, i, i+1), 0, first)
		}
	}
	return list
}

// MAC is a net.HardwareAddr that JSON shows as text.
type MAC net.HardwareAddr

// String returns the usual form, such as "52:54:00:12:34:56".
func (m MAC) String() string { return net.HardwareAddr(m).String() }

// MarshalText returns the form of String.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the form of String; nothing is the zero MAC.
func (m *MAC) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = nil
		return nil
	}
	mac, err := net.ParseMAC(string(b))
	*m = MAC(mac)
	return err
}

// Version is the version of the protocol. Version 0, of qnet until November 2026, has
// no first and no last reply to "stop": the end of the connection is the end of the
// VM, however its undo went.
const Version = 1

// The operations of a request.
const (
	opStatus  = "status"
	opStop    = "stop"
	opConsole = "console"
	opDo      = "do"
)

// request is the first line of a connection.
type request struct {
	Op      string        `json:"op"`
	Force   bool          `json:"force,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"` // nanoseconds

	Do   string          `json:"do,omitempty"` // see Operation
	Args json.RawMessage `json:"args,omitempty"`
	Ends bool            `json:"ends,omitempty"`
}

// reply is a line of what the server sends to "stop" and "do".
type reply struct {
	Version int    `json:"version,omitempty"` // in the first reply
	Rung    string `json:"rung,omitempty"`
	Ended   bool   `json:"ended,omitempty"` // QEMU has
	Last    *end   `json:"last,omitempty"`  // the process ends soon
	Error   string `json:"error,omitempty"` // why the request is refused

	Report string          `json:"report,omitempty"` // what an operation does
	Done   bool            `json:"done,omitempty"`   // it succeeded
	Result json.RawMessage `json:"result,omitempty"` // of it
	Failed *failure        `json:"failed,omitempty"` // it did not succeed
}

// unknownRequest begins the Error about a request that the server does not know.
const unknownRequest = "unknown request "

// end is how a VM's undo went.
type end struct {
	Error *keeper.WireError `json:"error,omitempty"`
}

// maxRequest is the longest request, in bytes: a piece of a file for a guest, in base64, is the
// longest.
const maxRequest = 64 << 10

// readRequest reads the first line and leaves the rest, a console's keys, in the reader. It
// takes no more memory than the request has bytes: there may be many clients.
func readRequest(r *bufio.Reader) (request, error) {
	var req request
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxRequest {
			return req, fmt.Errorf("read request: it has more than %d bytes", maxRequest)
		}
		if err == nil {
			return req, json.Unmarshal(line, &req)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return req, err
		}
	}
}
