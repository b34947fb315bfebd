// Package neigh asks neighbours of a link for their MACs, and tells them the MACs of
// addresses, by frames of its own: ARP (RFC 826, 5227) and neighbour discovery
// (RFC 4861). It can ask in the name of any MAC, and neither uses nor changes the host's
// own neighbour table.
//
// All functions need CAP_NET_RAW and may be called concurrently.
package neigh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/packet"
)

// Place is the MAC that has an address.
type Place struct {
	MAC  net.HardwareAddr
	Addr netip.Addr // zero: the host at MAC has no address yet
}

// String is "192.0.2.1 (02:00:00:00:00:01)".
func (p Place) String() string { return fmt.Sprintf("%s (%s)", p.Addr, p.MAC) }

// Link is the link to send by and the link to listen on, by their indexes. They differ
// where a bridge hands the answers to one of its ports.
type Link struct{ Send, Listen int }

// On is a link that sends and listens.
func On(index int) Link { return Link{index, index} }

// Query is one question: which MAC has the target address?
type Query struct {
	From   Place // the sender; one without an address changes no neighbour's table
	Target netip.Addr
	Want   net.HardwareAddr // the MAC that has to answer; nil: any
}

// Ask sends the queries that have no answer yet, at once and again each time that every
// has passed, until all are answered or within has passed. It returns all places that
// answered, in their order; another MAC than the one wanted is among them. An error
// comes with the places so far: ctx's where that ends first.
func Ask(ctx context.Context, l Link, queries []Query, every, within time.Duration) ([]Place, error) {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	a := &asking{link: l, queries: queries}
	err := a.run(limited, every)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return a.replies, err
}

// resolveInterval is the time between two questions of Resolve.
const resolveInterval = time.Second

// Resolve asks for the MAC of an address, once a second, until a neighbour answers or
// ctx ends, in the name of from. It returns nil where no neighbour answers.
func Resolve(ctx context.Context, l Link, from Place, target netip.Addr) (net.HardwareAddr, error) {
	a := &asking{link: l, queries: []Query{{From: from, Target: target}}}
	err := a.run(ctx, resolveInterval)
	switch {
	case len(a.replies) > 0:
		return a.replies[0].MAC, nil
	case ctx.Err() != nil:
		return nil, nil //nolint:nilerr // no neighbour has answered in time
	}
	return nil, err
}

// run opens the sockets and asks until all queries are answered.
func (a *asking) run(ctx context.Context, every time.Duration) error {
	in, err := packet.Listen(a.link.Listen, packet.All, packet.Neighbours)
	if err != nil {
		return fmt.Errorf("ask neighbours: %w", err)
	}
	defer in.Close() //nolint:errcheck // nothing follows from it
	out := in
	if a.link.Send != a.link.Listen {
		if out, err = packet.Listen(a.link.Send, packet.None, nil); err != nil {
			return fmt.Errorf("ask neighbours: %w", err)
		}
		defer out.Close() //nolint:errcheck // nothing follows from it
	}
	if err := a.exchange(ctx, in, out.Write, every); err != nil {
		return fmt.Errorf("ask neighbours: %w", err)
	}
	return nil
}

// Announce tells the link's hosts the MACs of addresses.
func Announce(link int, list []Place) error {
	return write(link, announcements(list))
}

// Solicit asks the link's routers to advertise themselves (RFC 4861, 6.3.7), in the name
// of a link-local address.
func Solicit(link int, from Place) error {
	return write(link, [][]byte{packet.RouterSolicitation(from.MAC, from.Addr)})
}

func write(link int, frames [][]byte) error {
	c, err := packet.Listen(link, packet.None, nil)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	var errs []error
	for _, f := range frames {
		errs = append(errs, c.Write(f))
	}
	return errors.Join(errs...)
}

// unlessDown drops the error of a link that is down: it may come up.
func unlessDown(err error) error {
	if errors.Is(err, unix.ENETDOWN) {
		return nil
	}
	return err
}
