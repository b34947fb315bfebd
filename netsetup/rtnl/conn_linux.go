package rtnl

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
)

// Conn is an rtnetlink(7) socket. Its methods may not be called concurrently.
type Conn struct{ socket socket }

// socket is what a Conn needs of a netlink.Conn.
type socket interface {
	Execute(netlink.Message) ([]netlink.Message, error)
	SendMessages([]netlink.Message) ([]netlink.Message, error)
	Receive() ([]netlink.Message, error)
	Close() error
}

// socketBuffer holds the kernel's answers to a whole batch, in bytes.
const socketBuffer = 4 << 20

// Dial opens a socket in the calling thread's network namespace. It needs no rights.
func Dial() (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	// Without CAP_NET_ADMIN the buffers stay smaller, which is enough for lists.
	c.SetReadBuffer(socketBuffer)                  //nolint:errcheck // as said
	c.SetWriteBuffer(socketBuffer)                 //nolint:errcheck // as said
	c.SetOption(netlink.ExtendedAcknowledge, true) //nolint:errcheck // errors have no explanation then
	return &Conn{c}, nil
}

// Close closes the socket. Its error says nothing about requests that Send answered.
func (c *Conn) Close() error { return c.socket.Close() }

// list returns what a dump of the kernel lists, without messages shorter than the fixed
// header. It starts again where something changed during the dump.
func (c *Conn) list(kind uint16, request []byte, header int) ([]Message, error) {
	list, err := dump.Whole(func() ([]netlink.Message, error) {
		list, err := c.socket.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Dump}, Data: request,
		})
		if slices.ContainsFunc(list, func(m netlink.Message) bool { return m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 }) {
			return nil, dump.ErrInterrupted
		}
		return list, err
	})
	if err != nil {
		return nil, fmt.Errorf("list by rtnetlink: %w", explained(err))
	}
	messages := make([]Message, 0, len(list))
	for _, m := range list {
		if len(m.Data) >= header {
			messages = append(messages, m.Data)
		}
	}
	return messages, nil
}

// get returns the kernel's answer to a request for one object.
func (c *Conn) get(kind uint16, request []byte) ([]Message, error) {
	list, err := c.socket.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request}, Data: request,
	})
	messages := make([]Message, len(list))
	for i, m := range list {
		messages[i] = m.Data
	}
	return messages, err
}

// maxBatch bounds the requests of one system call, in bytes.
const maxBatch = 1 << 20

// Send makes all changes, in as few system calls as they fit in: the kernel works off the
// requests of one call before a signal can end this process. It needs CAP_NET_ADMIN. It
// goes on after a request that fails, and returns all errors.
func (c *Conn) Send(requests []Request) error {
	var errs []error
	for len(requests) > 0 {
		n := batchLen(requests)
		if _, err := c.socket.SendMessages(packed(requests[:n])); err != nil {
			return errors.Join(append(errs, fmt.Errorf("send to rtnetlink: %w", explained(err)))...)
		}
		for _, r := range requests[:n] { // the answers come in the order of the requests
			if _, err := c.socket.Receive(); err != nil && !r.ignores(err) {
				errs = append(errs, fmt.Errorf("%s: %w", r, explained(err)))
			}
		}
		requests = requests[n:]
	}
	return errors.Join(errs...)
}

// Send makes changes over a socket of their own, like [Conn.Send].
func Send(requests ...Request) error {
	c, err := Dial()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the kernel has answered by then
	return c.Send(requests)
}

// batchLen returns how many requests go into one system call.
func batchLen(requests []Request) int {
	n, size := 0, 0
	for n < len(requests) && size < maxBatch {
		size += len(requests[n].data) + unix.NLMSG_HDRLEN
		n++
	}
	return n
}

func packed(requests []Request) []netlink.Message {
	list := make([]netlink.Message, len(requests))
	for i, r := range requests {
		flags := netlink.Request | netlink.Acknowledge | r.flags
		list[i] = netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(r.kind), Flags: flags}, Data: r.data}
	}
	return list
}

// explained returns the kernel's error without the netlink package's words, and with the
// kernel's explanation where it gave one (NLMSGERR_ATTR_MSG).
func explained(err error) error {
	var op *netlink.OpError
	switch {
	case !errors.As(err, &op):
		return err
	case op.Message != "":
		return fmt.Errorf("%w (%s)", op.Err, op.Message)
	}
	return op.Err
}
