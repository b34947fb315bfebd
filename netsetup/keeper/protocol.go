package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/guestwatch"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/plan"
	"github.com/qnet-vm/qnet/profiles"
)

// PortRequest asks for one NIC's connection.
type PortRequest struct {
	NIC     int              `json:"nic"` // index in the profile, 0 to 15
	MAC     net.HardwareAddr `json:"mac"`
	Address netip.Addr       `json:"address,omitzero"` // zero: derived from the MAC

	// Trace is a probe's: its own packets and those from these addresses are marked
	// for nft.Trace. Nil marks none.
	Trace []netip.Addr `json:"trace,omitzero"`

	// Files are those of kernel.OpenTun that the tap is to be made of, one for each
	// queue. They stay the caller's; with none, the keeper opens one.
	Files  []*os.File `json:"-"`
	Queues int        `json:"queues,omitempty"` // set by Join: as many
}

// Port is a NIC connected. The caller closes File, which is nil where he gave the
// tap's files; the tap lives as long as any file on it is open.
type Port struct {
	PortInfo
	File *os.File `json:"-"`
}

// PortInfo describes a port of a network.
type PortInfo struct {
	NIC     int              `json:"nic"`
	Tap     string           `json:"tap"`
	MAC     net.HardwareAddr `json:"mac"`
	Address netip.Addr       `json:"address,omitzero"` // host-only and nat: the one reserved for the guest
	Seen    guestwatch.State `json:"seen,omitzero"`    // how far the guest has got, and what it uses
}

// Info describes a running network.
type Info struct {
	Name      string        `json:"name"`
	Mode      profiles.Mode `json:"mode"`
	Macvtap   bool          `json:"macvtap,omitempty"`
	Bridge    string        `json:"bridge"` // "" with macvtap
	Prefix    netip.Prefix  `json:"prefix,omitzero"`
	Gateway   netip.Addr    `json:"gateway,omitzero"`
	MTU       int           `json:"mtu"` // bytes
	Uplinks   []string      `json:"uplinks,omitempty"`
	STP       bool          `json:"stp,omitempty"` // of the bridge: ports forward late
	KeeperPID int           `json:"keeper_pid"`
	VMs       []VMInfo      `json:"vms"`
	Leases    []dhcp.Lease  `json:"leases,omitempty"`
	Notes     []string      `json:"notes,omitempty"` // what does not work
}

// VMInfo is a VM registered with a network.
type VMInfo struct {
	Name  string     `json:"name"`
	Ports []PortInfo `json:"ports"`
}

// request is what a client sends.
type request struct {
	Op      string        `json:"op"` // "join", "rejoin", "ending", "leave" or "info"
	NetNS   string        `json:"netns,omitempty"`
	Network plan.Network  `json:"network,omitzero"`
	VM      string        `json:"vm,omitempty"`
	Ports   []PortRequest `json:"ports,omitempty"`
	Held    []PortInfo    `json:"held,omitempty"` // rejoin: the ports it got from a keeper before
}

// reply is what the keeper answers, with the taps' files in the order of Ports.
type reply struct {
	Error *wireError `json:"error,omitempty"`
	Info  *Info      `json:"info,omitempty"`
	Ports []PortInfo `json:"ports,omitempty"`
	Steps []string   `json:"steps,omitempty"` // what was done, as commands
	Notes []string   `json:"notes,omitempty"` // what the user should know

	// Waits is set in what a keeper says before its first word: what it waits for.
	Waits string `json:"waits,omitempty"`

	// Left is set in the answer to "leave".
	Left bool `json:"left,omitempty"`

	// Update is set in what the keeper sends unasked: the ports as they are now.
	Update []PortInfo `json:"update,omitempty"`

	// Replug is set in what the keeper sends unasked: the NICs whose guest should
	// see its cable pulled and plugged again.
	Replug []int `json:"replug,omitempty"`
}

// wireError carries an error and its identity between processes.
type wireError struct {
	Text string `json:"text"`
	Kind string `json:"kind,omitempty"`
}

var kinds = map[string]error{
	"no-tun":        host.ErrNoTun,
	"no-permission": host.ErrNoPermission,
	"not-ours":      host.ErrNotOurs,
	"refused":       host.ErrRefused,
	"unsupported":   host.ErrUnsupported,
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	for kind, sentinel := range kinds {
		if errors.Is(err, sentinel) {
			w.Kind = kind
		}
	}
	return w
}

// Error is the text as the other process worded it.
func (w *wireError) Error() string { return w.Text }

// Unwrap gives the error its identity back.
func (w *wireError) Unwrap() error { return kinds[w.Kind] }

// maxMessage bounds a message; the largest, a plan's steps, is some 10 KiB.
const maxMessage = 256 << 10

// maxFiles bounds the files in a message: 16 NICs of up to 8 queues.
const maxFiles = 16 * 8

func send(c *net.UnixConn, v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix(b, rights, nil); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

func receive(c *net.UnixConn, v any) ([]*os.File, error) {
	size, err := awaitMessage(c)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	if size == 0 { // SOCK_SEQPACKET: the peer is gone
		return nil, net.ErrClosed
	}
	b := make([]byte, min(size, maxMessage))
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	files, err := rightsOf(oob[:oobn])
	if err != nil {
		return files, err
	}
	if err := json.Unmarshal(b[:n], v); err != nil {
		return files, fmt.Errorf("decode message: %w", err)
	}
	return files, nil
}

// awaitMessage waits for a message and returns its length: who waits, as the keeper
// for each VM, holds no buffer.
func awaitMessage(c *net.UnixConn) (size int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	waitErr := raw.Read(func(fd uintptr) bool {
		size, _, _, _, err = unix.Recvmsg(int(fd), nil, nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	return size, errors.Join(waitErr, err)
}

func rightsOf(oob []byte) ([]*os.File, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("receive files: %w", err)
	}
	var files []*os.File
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, fmt.Errorf("receive files: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "tap"))
		}
	}
	return files, nil
}
