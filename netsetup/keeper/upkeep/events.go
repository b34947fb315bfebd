package upkeep

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kind is a set of kinds of the kernel's events.
type kind uint

const (
	links kind = 1 << iota
	addresses
	addresses6
	netconfs // sysctls of links: forwarding, rp_filter, ... (RTM_NEWNETCONF)
	routes4
	routes6
	rules  // policy routing, IPv4
	tables // nftables
)

// events is the only subscription to the kernel's netlink messages. It wakes the tasks that
// subscribed to their kind, unless a task says of a message that it does not matter.
type events struct {
	sockets []*netlink.Conn
	wanted  []subscription
}

type subscription struct {
	kinds   kind
	matters func(netlink.Message) bool
	wake    signal
}

// listen opens the sockets. Where one cannot be opened, it returns an error beside
// events of the other.
func listen() (*events, error) {
	e := &events{}
	var errs []error
	for _, s := range []struct {
		family int
		groups []uint32
	}{
		{unix.NETLINK_ROUTE, []uint32{
			unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_NETCONF,
			unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE,
		}},
		{unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}},
	} {
		conn, err := listenGroups(s.family, s.groups)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e.sockets = append(e.sockets, conn)
	}
	return e, errors.Join(errs...)
}

// eventBuffer holds the events that come while the reader does not run, in bytes: those of
// some thousand routes, which a routing daemon changes at once.
const eventBuffer = 4 << 20

func listenGroups(family int, groups []uint32) (*netlink.Conn, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, fmt.Errorf("listen to netlink: %w", err)
	}
	conn.SetReadBuffer(eventBuffer) //nolint:errcheck // a smaller one costs looks at the host, see read
	for _, g := range groups {
		if err := conn.JoinGroup(g); err != nil {
			return nil, errors.Join(fmt.Errorf("listen to netlink group %d: %w", g, err), conn.Close())
		}
	}
	return conn, nil
}

// subscribe returns the signal that events of the kinds set. It is called before Run.
func (e *events) subscribe(kinds kind) signal {
	return e.subscribeIf(kinds, func(netlink.Message) bool { return true })
}

// subscribeIf is subscribe for those events that matter. The function is called by one
// goroutine at a time, and must not wait.
func (e *events) subscribeIf(kinds kind, matters func(netlink.Message) bool) signal {
	s := newSignal()
	e.wanted = append(e.wanted, subscription{kinds, matters, s})
	return s
}

func (e *events) String() string { return "events" }

// Run wakes the subscribers until the context ends, and closes the sockets.
func (e *events) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	failed := make([]error, len(e.sockets))
	for i, s := range e.sockets {
		readers.Go(func() { failed[i] = e.read(ctx, s) })
	}
	<-ctx.Done()
	for _, s := range e.sockets {
		s.Close() //nolint:errcheck // it ends the reader
	}
	readers.Wait()
	return errors.Join(failed...)
}

// read reads the socket until the context has ended and the socket is closed.
func (e *events) read(ctx context.Context, s *netlink.Conn) error {
	for ctx.Err() == nil {
		messages, err := s.Receive()
		if errors.Is(err, unix.ENOBUFS) { // more events than the socket's buffer takes
			e.wakeAll()
		} else if err != nil && ctx.Err() == nil {
			return fmt.Errorf("read netlink: %w", err)
		}
		for _, m := range messages {
			e.wake(m)
		}
	}
	return nil
}

func (e *events) wake(m netlink.Message) {
	seen := kindOf(m)
	for _, w := range e.wanted {
		if w.kinds&seen != 0 && w.matters(m) {
			w.wake.set()
		}
	}
}

// wakeAll makes all tasks look: nobody knows what was missed.
func (e *events) wakeAll() {
	for _, w := range e.wanted {
		w.wake.set()
	}
}

// nftables is the high byte of the type of an nfnetlink message of nftables.
const nftables = unix.NFNL_SUBSYS_NFTABLES

// kindOf is the kind of a message by its type (linux/rtnetlink.h, linux/netfilter/nfnetlink.h).
func kindOf(m netlink.Message) kind {
	switch t := uint16(m.Header.Type); t {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return links
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if isIPv6(m) {
			return addresses6
		}
		return addresses
	case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
		return netconfs
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return rules
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if isIPv6(m) {
			return routes6
		}
		return routes4
	default:
		if t>>8 == nftables {
			return tables
		}
		return 0
	}
}

// isIPv6 reports whether a message that begins with its family (struct rtmsg, ifaddrmsg) is
// about IPv6.
func isIPv6(m netlink.Message) bool { return len(m.Data) > 0 && m.Data[0] == unix.AF_INET6 }
