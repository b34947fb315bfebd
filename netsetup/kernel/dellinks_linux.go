package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/rtnl"
)

// DelLinks deletes links and returns when their names are free. Links that are gone are no
// error.
//
// The kernel deletes a bridge after two grace periods of RCU, one after the other, of some
// 20 ms each, and a tap after one (rcu_barrier in br_multicast_dev_del and netdev_run_todo).
// Links of one group share them; the group has a random number, so that no other link is in
// it. DelLinks does not wait for the last grace period either. Before it, the kernel tells
// its listeners that the links are gone, and only their memory is left.
//
//	ip link set NAME group N
//	ip link del group N
func (h *Host) DelLinks(ctx context.Context, names []string) error {
	defer func() {
		for _, name := range names {
			h.letGo(name)
		}
	}()
	var indexes []int
	for _, name := range names {
		if f := h.TakeTap(name); f != nil {
			f.Close()
		}
		l, ok, err := h.Link(ctx, name)
		if err != nil {
			return err
		}
		if ok {
			indexes = append(indexes, l.Index)
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

// delLinks deletes links by their indexes.
func delLinks(indexes []int) error {
	gone, err := listenForEnd(indexes)
	if err != nil {
		return err
	}
	defer gone.conn.Close() //nolint:errcheck // nothing follows from it
	deleted := make(chan error, 1)
	go func() { deleted <- requestEnd(indexes) }()
	select {
	case err := <-deleted:
		return err
	case <-gone.all:
	}
	// The kernel announces the end under a lock that HasLink waits for: after it the names are
	// free, in sysfs, too.
	if there, err := hasLink(indexes[0]); err == nil && !there {
		return nil
	}
	return <-deleted
}

func hasLink(index int) (bool, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return false, err
	}
	defer c.Close() //nolint:errcheck // nothing follows from it
	return c.HasLink(index)
}

// requestEnd deletes one link by its index, several as a group. A link that another program
// has deleted is no error.
func requestEnd(indexes []int) error {
	end := rtnl.DelLink(indexes[0])
	if len(indexes) > 1 {
		group := 1 + rand.Uint32N(1<<31-1)
		for _, i := range indexes {
			if err := rtnl.Send(rtnl.SetGroup(i, group)); err != nil && !errors.Is(err, unix.ENODEV) {
				return err
			}
		}
		end = rtnl.DelGroup(group)
	}
	if err := rtnl.Send(end); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// ends listens for the end of links.
type ends struct {
	conn *netlink.Conn
	all  chan struct{} // closed when all links are gone
}

func listenForEnd(indexes []int) (*ends, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("listen to netlink: %w", err)
	}
	if err := conn.JoinGroup(unix.RTNLGRP_LINK); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to netlink: %w", err), conn.Close())
	}
	e := &ends{conn, make(chan struct{})}
	go e.listen(indexes)
	return e, nil
}

// listen closes e.all when the kernel has announced the end of all links. It returns when the
// socket is closed, or has lost messages: then the request itself shows the end.
func (e *ends) listen(indexes []int) {
	left := map[int]bool{}
	for _, i := range indexes {
		left[i] = true
	}
	for len(left) > 0 {
		messages, err := e.conn.Receive()
		if err != nil {
			return
		}
		for _, m := range messages {
			// The end of a port of a bridge is a message of the same type, but of family AF_BRIDGE.
			if m.Header.Type == unix.RTM_DELLINK && len(m.Data) >= unix.SizeofIfInfomsg && m.Data[0] == unix.AF_UNSPEC {
				delete(left, int(binary.NativeEndian.Uint32(m.Data[4:])))
			}
		}
	}
	close(e.all)
}
