// Package trace follows packets through the rules of all programs: those that a rule marks
// (nft.TracePacket).
//
// A Tracer listens in the network namespace in which it was started, and may be used concurrently.
package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/nft"
)

// Verdict is what a rule or a policy did with a traced packet, as nft(8) spells it.
type Verdict string

// The verdicts of a trace. Stolen means that the rule itself answered or took in the
// packet.
const (
	Accepted  Verdict = "accept"
	Dropped   Verdict = "drop"
	Stolen    Verdict = "stolen"
	Queued    Verdict = "queue"
	Continued Verdict = "continue"
	Jumped    Verdict = "jump"
	Gone      Verdict = "goto"
	Returned  Verdict = "return"
)

// verdicts has the verdicts by the kernel's codes (linux/netfilter.h, nf_tables.h).
var verdicts = map[int32]Verdict{
	0: Dropped, 1: Accepted, 2: Stolen, 3: Queued, -1: Continued, -2: Continued, -3: Jumped, -4: Gone, -5: Returned,
}

// Event is one rule that a traced packet matched, or the policy that decided on it.
// The headers are those that the packet had when it came to the base chain.
type Event struct {
	ID        uint32 // of the packet in one hook; another hook may have another
	Family    nft.Family
	Table     string
	Chain     string
	Handle    uint64 // of the rule; 0 for a policy
	Policy    bool
	Verdict   Verdict
	In, Out   int    // link indexes, 0 for none
	Network   []byte // at most 20 bytes of an IPv4 header
	Transport []byte // at most 20 bytes behind it
}

// Tracer collects the kernel's events about packets that a rule with nft.TracePacket marks.
//
//	nft monitor trace
type Tracer struct {
	conn      *netlink.Conn
	listening sync.WaitGroup

	mu     sync.Mutex // guards what follows
	events []Event
	heads  map[uint32]Event // the first event of an ID, the one with the headers
	lost   bool
}

// maxTrace bounds the events kept; a probe's packets make some hundreds.
const maxTrace = 1 << 15

// Start begins to collect events, until Close. It needs CAP_NET_ADMIN.
func Start() (*Tracer, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("listen to nftables trace: %w", err)
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTRACE); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to nftables trace: %w", err), conn.Close())
	}
	conn.SetReadBuffer(4 << 20) //nolint:errcheck // the default loses events only when there are many
	return newTracer(conn), nil
}

// newTracer collects events from the socket until Close.
func newTracer(conn *netlink.Conn) *Tracer {
	t := &Tracer{conn: conn, heads: map[uint32]Event{}}
	t.listening.Go(t.listen)
	return t
}

// Close closes the socket and waits for the end of the collecting.
func (t *Tracer) Close() error {
	defer t.listening.Wait()
	return t.conn.Close()
}

// Events returns the events so far, in their order. lost reports whether there were more
// than fit, most likely of another program's traces.
func (t *Tracer) Events() (events []Event, lost bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Event{}, t.events...), t.lost
}

func (t *Tracer) listen() {
	for {
		msgs, err := t.conn.Receive()
		t.mu.Lock()
		t.lost = t.lost || errors.Is(err, unix.ENOBUFS)
		for _, m := range msgs {
			t.add(m)
		}
		t.mu.Unlock()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return // closed
		}
	}
}

func (t *Tracer) add(m netlink.Message) {
	if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE || len(m.Data) < 4 {
		return
	}
	if len(t.events) >= maxTrace {
		t.lost = true
		return
	}
	e, err := decodeTrace(m.Data)
	if err != nil {
		return
	}
	if e.Network != nil {
		t.heads[e.ID] = e
	} else if head, ok := t.heads[e.ID]; ok {
		e.Network, e.Transport, e.In, e.Out = head.Network, head.Transport, head.In, head.Out
	}
	t.events = append(t.events, e)
}

// decodeTrace reads a message of linux/netfilter/nf_tables.h, enum nft_trace_attributes.
func decodeTrace(data []byte) (Event, error) {
	e := Event{Family: nft.FamilyOf(data[0])}
	attrs, err := netlink.UnmarshalAttributes(data[4:])
	if err != nil {
		return e, fmt.Errorf("decode trace: %w", err)
	}
	for _, a := range attrs {
		switch a.Type &^ unix.NLA_F_NESTED {
		case unix.NFTA_TRACE_TABLE:
			e.Table = unix.ByteSliceToString(a.Data)
		case unix.NFTA_TRACE_CHAIN:
			e.Chain = unix.ByteSliceToString(a.Data)
		case unix.NFTA_TRACE_RULE_HANDLE:
			if len(a.Data) == 8 {
				e.Handle = binary.BigEndian.Uint64(a.Data)
			}
		case unix.NFTA_TRACE_ID:
			e.ID = number(a.Data)
		case unix.NFTA_TRACE_VERDICT:
			e.Verdict = decodeVerdict(a.Data)
		case unix.NFTA_TRACE_POLICY:
			e.Policy, e.Verdict = true, verdicts[int32(number(a.Data))]
		case unix.NFTA_TRACE_IIF:
			e.In = int(number(a.Data))
		case unix.NFTA_TRACE_OIF:
			e.Out = int(number(a.Data))
		case unix.NFTA_TRACE_NETWORK_HEADER:
			e.Network = a.Data
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			e.Transport = a.Data
		}
	}
	return e, nil
}

func decodeVerdict(data []byte) Verdict {
	attrs, err := netlink.UnmarshalAttributes(data)
	if err != nil {
		return ""
	}
	for _, a := range attrs {
		if a.Type == unix.NFTA_VERDICT_CODE {
			return verdicts[int32(number(a.Data))]
		}
	}
	return ""
}

// number reads a 32-bit number in network byte order; 0 if b is shorter.
func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
