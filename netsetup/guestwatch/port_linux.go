package guestwatch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
)

// snap is how much of a frame is read: all of a DHCP message.
const snap = 1514

// telling is a filter that passes what parse understands: ARP, ICMPv6, and UDP of DHCP
// and DNS. The other frames of a busy guest stay in the kernel.
var telling = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 12, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherARP, SkipTrue: 13},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherIPv6, SkipTrue: 2},
	bpf.LoadAbsolute{Off: packet.EtherLen + 6, Size: 1}, // next header
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_ICMPV6, SkipTrue: 10, SkipFalse: 11},
	bpf.LoadAbsolute{Off: packet.EtherLen + 9, Size: 1}, // protocol
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 9},
	bpf.LoadMemShift{Off: packet.EtherLen},
	bpf.LoadIndirect{Off: packet.EtherLen, Size: 2}, // source port
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 53, SkipTrue: 5},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 67, SkipTrue: 4},
	bpf.LoadIndirect{Off: packet.EtherLen + 2, Size: 2}, // destination port
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 53, SkipTrue: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 67, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: snap},
	bpf.RetConstant{Val: 0},
}

// conn is what a Port needs of a packet.Conn.
type conn interface {
	packet.Reader
	SetFilter(filter []bpf.Instruction) error
	Close() error
}

// Port is a tap whose frames Run reads.
type Port struct {
	conn    conn
	mac     net.HardwareAddr
	macvtap bool

	// Claimed, if set before Run, is called with each IPv6 address that the guest asks about
	// before it uses it (duplicate address detection, RFC 4862), or that it sends neighbor
	// discovery from, whether or not a guard's rule drops the frame.
	Claimed func(a netip.Addr)
}

// Open opens the link with that index, the tap of a guest's NIC with that MAC. A frame
// that the guest sends comes in by a tap, and goes out by a macvtap link. It needs
// CAP_NET_RAW.
func Open(link int, mac net.HardwareAddr, macvtap bool) (*Port, error) {
	conn, err := packet.Listen(link, packet.All, nil)
	if err != nil {
		return nil, fmt.Errorf("watch tap: %w", err)
	}
	return &Port{conn: conn, mac: mac, macvtap: macvtap}, nil
}

// Run calls changed with each new state, starting from the one given, until Close or
// the end of the tap.
func (p *Port) Run(state State, changed func(State)) {
	b := make([]byte, snap)
	narrow := false
	for {
		n, out, err := p.conn.Read(b)
		if errors.Is(err, unix.ENETDOWN) {
			continue // the link went down; its removal comes as another error
		}
		if err != nil {
			return
		}
		out = out != p.macvtap
		x, ok := parse(b[:n], p.mac, out)
		if !ok {
			continue
		}
		// After the first frame, only the frames that parse understands are worth a wake-up.
		if !narrow && !out {
			narrow = p.conn.SetFilter(telling) == nil
		}
		if x.claim.IsValid() && p.Claimed != nil {
			p.Claimed(x.claim)
		}
		if state.add(x) {
			changed(state)
		}
	}
}

// Close ends Run.
func (p *Port) Close() error {
	if err := p.conn.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
