package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Conn is an rtnetlink(7) socket for messages as they are.
type Conn struct{ *netlink.Conn }

// socketBuffer holds the kernel's answers to a whole batch, in bytes.
const socketBuffer = 4 << 20

func Dial() (Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return Conn{}, fmt.Errorf("open rtnetlink: %w", err)
	}
	// Without the right to, a smaller one does: only the keeper sends batches.
	c.SetReadBuffer(socketBuffer)                  //nolint:errcheck // as said
	c.SetWriteBuffer(socketBuffer)                 //nolint:errcheck // as said
	c.SetOption(netlink.ExtendedAcknowledge, true) //nolint:errcheck // it words the kernel's errors
	return Conn{c}, nil
}

// Dump lists what the kernel has, again where something changed meanwhile.
func (c Conn) Dump(what uint16, request []byte) ([]Raw, error) {
	for range 20 {
		list, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(what), Flags: netlink.Request | netlink.Dump}, Data: request,
		})
		if err != nil {
			return nil, fmt.Errorf("list by rtnetlink: %w", err)
		}
		cut := slices.ContainsFunc(list, func(m netlink.Message) bool { return m.Header.Flags&unix.NLM_F_DUMP_INTR != 0 })
		if cut {
			continue
		}
		raws := make([]Raw, 0, len(list))
		for _, m := range list {
			raws = append(raws, Raw(m.Data))
		}
		return raws, nil
	}
	return nil, errors.New("list by rtnetlink: it changes all the time")
}

// Request is one change of a batch. The errors in but are no failure: what was to
// be made is there, what was to be deleted is gone.
type Request struct {
	Type   uint16
	Flags  netlink.HeaderFlags
	Data   []byte
	Except []error
	Words  string // of an error
}

// maxBatch bounds what is sent at once, in bytes.
const maxBatch = 1 << 20

// Send makes all changes, in as few system calls as they fit in: the kernel does
// one call's changes before anything can kill this process. It goes on after a
// failure and returns them all.
func (c Conn) Send(batch []Request) error {
	var errs []error
	for len(batch) > 0 {
		n, size := 0, 0
		var msgs []netlink.Message
		for n < len(batch) && size < maxBatch {
			r := batch[n]
			msgs = append(msgs, netlink.Message{
				Header: netlink.Header{Type: netlink.HeaderType(r.Type), Flags: netlink.Request | netlink.Acknowledge | r.Flags}, Data: r.Data,
			})
			size += len(r.Data) + unix.NLMSG_HDRLEN
			n++
		}
		if _, err := c.SendMessages(msgs); err != nil {
			return errors.Join(append(errs, fmt.Errorf("send to rtnetlink: %w", err))...)
		}
		for _, r := range batch[:n] { // the answers come in the order of the requests
			_, err := c.Receive()
			if err == nil || slices.ContainsFunc(r.Except, func(e error) bool { return errors.Is(e, ErrAny) || errors.Is(err, e) }) {
				continue
			}
			errs = append(errs, fmt.Errorf("%s: %w", r.Words, err))
		}
		batch = batch[n:]
	}
	return errors.Join(errs...)
}

// ErrAny stands for whatever the kernel may object to.
var ErrAny = errors.New("any")

func MsgHeader(family int) []byte {
	return append([]byte{byte(family)}, make([]byte, int(BodyKind)-1)...)
}

// Addrs lists the addresses of a link, by its index.
//
//	ip addr show dev LINK
func (c Conn) Addrs(link int) ([]Raw, error) {
	list, err := c.Dump(unix.RTM_GETADDR, make([]byte, AddrKind))
	return slices.DeleteFunc(list, func(r Raw) bool { return (Address{r}).index() != link }), err
}

// ifReady is IF_READY (include/net/if_inet6.h): IPv6 uses the link. A temporary
// address that the kernel makes before, it drops, and after some tries makes no more.
const ifReady = 0x80000000

// Ready reports whether IPv6 uses a link.
func (c Conn) Ready(index int) bool {
	list, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request}, Data: IfInfo(index),
	})
	if err != nil || len(list) == 0 || len(list[0].Data) < unix.SizeofIfInfomsg {
		return false
	}
	spec := nested(Attrs(list[0].Data[unix.SizeofIfInfomsg:]), unix.IFLA_AF_SPEC)
	flags := nested(Attrs(spec), unix.AF_INET6)
	value := nested(Attrs(flags), unix.IFLA_INET6_FLAGS)
	return len(value) == 4 && binary.NativeEndian.Uint32(value)&ifReady != 0
}

func nested(list []Attr, kind uint16) []byte {
	for _, a := range list {
		if a.Kind == kind {
			return a.Value
		}
	}
	return nil
}

// IfInfo is struct ifinfomsg.
func IfInfo(index int) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return b
}
