package neigh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab/fakewire"
	"github.com/qnet-vm/qnet/internal/packet"
)

var (
	guest   = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	gateway = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	other   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	gw4     = netip.MustParseAddr("192.0.2.1")
	gw6     = netip.MustParseAddr("fe80::1")
	host4   = netip.MustParseAddr("192.0.2.10")
)

// arpReply is the answer of a host to a MAC.
func arpReply(from net.HardwareAddr, addr netip.Addr, to net.HardwareAddr) []byte {
	b := packet.ARPRequest(from, addr, host4)
	copy(b, to)
	b[packet.EtherLen+7] = 2
	return b
}

// advertisement is the answer of a host to a MAC, or to all nodes.
func advertisement(from net.HardwareAddr, addr netip.Addr, to net.HardwareAddr) []byte {
	b := packet.UnsolicitedAdvertisement(from, addr)
	copy(b, to)
	return b
}

var allNodes = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}

// anyone asks for both gateways, whatever their MAC.
func anyone() []Query {
	return []Query{{From: Place{MAC: guest}, Target: gw4}, {From: Place{MAC: guest}, Target: gw6}}
}

func TestReceive(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame []byte
		out   bool
		link  Link
		want  []Place
	}{
		{"ARP", arpReply(gateway, gw4, guest), false, On(2), []Place{{gateway, gw4}}},
		{"ARP to another host", arpReply(gateway, gw4, other), false, On(2), nil},
		{"ARP to all", arpReply(gateway, gw4, packet.Broadcast), false, On(2), nil},
		{"an ARP request", packet.ARPRequest(gateway, gw4, host4), false, On(2), nil},
		{"ARP of another address", arpReply(other, netip.MustParseAddr("192.0.2.2"), guest), false, On(2), nil},
		{"our own answer", arpReply(guest, gw4, guest), false, On(2), nil},
		{"an answer that the host sends", arpReply(gateway, gw4, guest), true, On(2), nil},
		{"an answer that the bridge sends to the port", arpReply(gateway, gw4, guest), true, Link{2, 3}, []Place{{gateway, gw4}}},
		{"advertisement", advertisement(gateway, gw6, guest), false, On(2), []Place{{gateway, gw6}}},
		{"advertisement to all", advertisement(gateway, gw6, allNodes), false, On(2), []Place{{gateway, gw6}}},
		{"no frame", nil, false, On(2), nil},
	} {
		a := &asking{link: c.link, queries: anyone()}
		if done := a.receive(c.frame, c.out); done || !reflect.DeepEqual(a.replies, c.want) {
			t.Errorf("%s: replies %v, done %v", c.name, a.replies, done)
		}
		if a.receive(c.frame, c.out); len(a.replies) != len(c.want) {
			t.Errorf("%s: noted twice: %v", c.name, a.replies)
		}
	}
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		query Query
		want  []byte
	}{
		{Query{From: Place{guest, host4}, Target: gw4}, packet.ARPRequest(guest, host4, gw4)},
		{Query{From: Place{MAC: guest}, Target: gw4}, packet.ARPRequest(guest, netip.IPv4Unspecified(), gw4)},
		{Query{From: Place{guest, gw6}, Target: gw6}, packet.NeighbourSolicitation(guest, gw6, gw6)},
		{Query{From: Place{MAC: guest}, Target: gw6}, packet.NeighbourSolicitation(guest, netip.IPv6Unspecified(), gw6)},
	} {
		if got := c.query.frame(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %x", c.query, got)
		}
	}
	frames := announcements([]Place{{guest, host4}, {guest, gw6}})
	if len(frames) != 2 || !slices.Equal(frames[0], packet.GratuitousARP(guest, host4)) || !slices.Equal(frames[1], packet.UnsolicitedAdvertisement(guest, gw6)) {
		t.Errorf("announcements: %x", frames)
	}
	if got := (Place{gateway, gw4}).String(); got != "192.0.2.1 (02:00:00:00:00:01)" {
		t.Errorf("got %s", got)
	}
}

// What is answered is not asked again; another MAC than the one wanted is reported, and
// asked on.
func TestExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := fakewire.New()
		queries := anyone()
		queries[0].Want = gateway
		a := &asking{link: On(2), queries: queries}
		var sent []time.Duration
		began := time.Now()
		send := func(frame []byte) error {
			sent = append(sent, time.Since(began))
			if len(sent) == 1 {
				return unix.ENETDOWN // the link comes up meanwhile
			}
			return nil
		}
		time.AfterFunc(1100*time.Millisecond, func() { wire.Receive(advertisement(gateway, gw6, guest)) })
		time.AfterFunc(1200*time.Millisecond, func() { wire.Receive(arpReply(other, gw4, guest)) })
		time.AfterFunc(2100*time.Millisecond, func() { wire.Receive(arpReply(gateway, gw4, guest)) })
		if err := a.exchange(t.Context(), wire, send, time.Second); err != nil {
			t.Fatal(err)
		}
		if want := []Place{{gateway, gw6}, {other, gw4}, {gateway, gw4}}; !reflect.DeepEqual(a.replies, want) {
			t.Errorf("replies %v", a.replies)
		}
		if want := []time.Duration{0, 0, time.Second, time.Second, 2 * time.Second}; !slices.Equal(sent, want) {
			t.Errorf("asked at %v, want %v", sent, want)
		}
	})
}

func TestExchangeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := (&asking{}).exchange(t.Context(), fakewire.New(), nil, time.Second); err != nil {
			t.Errorf("nothing to ask: %v", err)
		}
		a := &asking{link: On(2), queries: anyone()}
		if err := a.exchange(t.Context(), fakewire.New(), func([]byte) error { return unix.ENODEV }, time.Second); !errors.Is(err, unix.ENODEV) {
			t.Errorf("the link is gone: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := a.exchange(ctx, fakewire.New(), func([]byte) error { return nil }, time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || a.replies != nil {
			t.Errorf("no answer: %v, %v", a.replies, err)
		}
	})
}
