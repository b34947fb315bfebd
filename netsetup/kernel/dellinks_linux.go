package kernel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// DelLinks deletes links and returns when no name of theirs is left.
//
// The kernel lets a bridge go after two grace periods of RCU, one after the other,
// some 20 ms each, and a tap after one (rcu_barrier in br_multicast_dev_del and
// netdev_run_todo). Links of one group share them; nobody else's are in ours,
// which has a random number. And the last one is not waited for: before it, the
// kernel tells everybody that the links are gone, and they are, with their names,
// but for their memory.
//
//	ip link set NAME group N
//	ip link del group N
func (h *Host) DelLinks(ctx context.Context, names []string) error {
	defer func() {
		for _, name := range names {
			h.letGo(name)
		}
	}()
	var indexes []int32
	for _, name := range names {
		if f := h.TakeTap(name); f != nil {
			f.Close()
		}
		l, ok, err := h.Link(ctx, name)
		if err != nil {
			return err
		}
		if ok {
			indexes = append(indexes, int32(l.Index))
		}
	}
	if len(indexes) == 0 {
		return nil
	}
	if err := delLinks(indexes); err != nil {
		return fmt.Errorf("delete links %q: %w", names, host.Explain(err))
	}
	return nil
}

func delLinks(indexes []int32) error {
	told, err := listenForEnd(indexes)
	if err != nil {
		return err
	}
	defer told.conn.Close() //nolint:errcheck // nothing follows from it
	deleted := make(chan error, 1)
	go func() { deleted <- requestEnd(indexes) }()
	select {
	case err := <-deleted:
		return err
	case <-told.all:
	}
	// It was told under the lock that this waits for: then the names are free, in
	// sysfs too.
	err = linkRequest(unix.RTM_GETLINK, indexes[0], 0)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return <-deleted
}

// requestEnd deletes a link by its index, several as a group.
func requestEnd(indexes []int32) error {
	index, group := indexes[0], uint32(0)
	if len(indexes) > 1 {
		index, group = 0, 1+rand.Uint32N(1<<31-1)
		for _, i := range indexes {
			if err := linkRequest(unix.RTM_SETLINK, i, group); err != nil && !errors.Is(err, unix.ENODEV) {
				return err
			}
		}
	}
	err := linkRequest(unix.RTM_DELLINK, index, group)
	if errors.Is(err, unix.ENODEV) {
		return nil // somebody was faster
	}
	return err
}

// linkRequest is about a link, a link and its group, or a group.
func linkRequest(kind int, index int32, group uint32) error {
	req := nl.NewNetlinkRequest(kind, unix.NLM_F_ACK)
	header := nl.NewIfInfomsg(unix.AF_UNSPEC)
	header.Index = index
	req.AddData(header)
	if group != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// ends tells of the end of links.
type ends struct {
	conn *netlink.Conn
	all  chan struct{} // closed when all are gone
}

func listenForEnd(indexes []int32) (*ends, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("listen to netlink: %w", err)
	}
	if err := conn.JoinGroup(unix.RTNLGRP_LINK); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to netlink: %w", err), conn.Close())
	}
	e := &ends{conn, make(chan struct{})}
	go e.hear(indexes)
	return e, nil
}

func (e *ends) hear(indexes []int32) {
	left := map[int32]bool{}
	for _, i := range indexes {
		left[i] = true
	}
	for len(left) > 0 {
		messages, err := e.conn.Receive()
		if err != nil {
			return // closed, or there was too much: the request's own end tells
		}
		for _, m := range messages {
			// A port that leaves its bridge is told in the same words, of family AF_BRIDGE.
			if m.Header.Type == unix.RTM_DELLINK && len(m.Data) >= unix.SizeofIfInfomsg && m.Data[0] == unix.AF_UNSPEC {
				delete(left, nl.DeserializeIfInfomsg(m.Data).Index)
			}
		}
	}
	close(e.all)
}
