package netsetup

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnl is an rtnetlink(7) socket for messages as they are.
type rtnl struct{ *netlink.Conn }

// socketBuffer holds the kernel's answers to a whole batch, in bytes.
const socketBuffer = 4 << 20

func dialRTNL() (rtnl, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return rtnl{}, fmt.Errorf("open rtnetlink: %w", err)
	}
	// Without the right to, a smaller one does: only the keeper sends batches.
	c.SetReadBuffer(socketBuffer)                  //nolint:errcheck // as said
	c.SetWriteBuffer(socketBuffer)                 //nolint:errcheck // as said
	c.SetOption(netlink.ExtendedAcknowledge, true) //nolint:errcheck // it words the kernel's errors
	return rtnl{c}, nil
}

// dump lists what the kernel has, again where something changed meanwhile.
func (c rtnl) dump(what uint16, request []byte) ([]Raw, error) {
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

// request is one change of a batch. The errors in but are no failure: what was to
// be made is there, what was to be deleted is gone.
type request struct {
	what  uint16
	flags netlink.HeaderFlags
	data  []byte
	but   []error
	words string // of an error
}

// maxBatch bounds what is sent at once, in bytes.
const maxBatch = 1 << 20

// send makes all changes, in as few system calls as they fit in: the kernel does
// one call's changes before anything can kill this process. It goes on after a
// failure and returns them all.
func (c rtnl) send(batch []request) error {
	var errs []error
	for len(batch) > 0 {
		n, size := 0, 0
		var msgs []netlink.Message
		for n < len(batch) && size < maxBatch {
			r := batch[n]
			msgs = append(msgs, netlink.Message{
				Header: netlink.Header{Type: netlink.HeaderType(r.what), Flags: netlink.Request | netlink.Acknowledge | r.flags}, Data: r.data,
			})
			size += len(r.data) + unix.NLMSG_HDRLEN
			n++
		}
		if _, err := c.SendMessages(msgs); err != nil {
			return errors.Join(append(errs, fmt.Errorf("send to rtnetlink: %w", err))...)
		}
		for _, r := range batch[:n] { // the answers come in the order of the requests
			_, err := c.Receive()
			if err == nil || slices.ContainsFunc(r.but, func(e error) bool { return errors.Is(e, errAny) || errors.Is(err, e) }) {
				continue
			}
			errs = append(errs, fmt.Errorf("%s: %w", r.words, err))
		}
		batch = batch[n:]
	}
	return errors.Join(errs...)
}

// errAny stands for whatever the kernel may object to.
var errAny = errors.New("any")

func rtmsg(family int) []byte { return append([]byte{byte(family)}, make([]byte, int(bodyKind)-1)...) }

// readHoldings reads what the host has by a link.
func readHoldings(c rtnl, l Link) (Holdings, error) {
	h := Holdings{Index: l.Index, Since: bootSeconds()}
	if l.Index == 0 {
		return h, nil // there is no such link
	}
	addrs, err := c.addrs(l.Index)
	if err != nil {
		return h, err
	}
	h.Addrs = addrs
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := addRoutes(c, &h, family); err != nil {
			return h, err
		}
		for _, flags := range []byte{0, unix.NTF_PROXY} {
			ask := rtmsg(family)
			ask[10] = flags
			list, err := c.dump(unix.RTM_GETNEIGH, ask)
			if err != nil {
				return h, err
			}
			for _, r := range list {
				if n := (neighbour{r}); n.index() == l.Index && n.family() == family && n.proxy() == (flags != 0) && n.worth() {
					h.Neighs = append(h.Neighs, r)
				}
			}
		}
		list, err := c.dump(unix.RTM_GETRULE, rtmsg(family))
		if err != nil {
			return h, err
		}
		for _, r := range list {
			if (rule{r}).names(l.Name) {
				h.Rules = append(h.Rules, r)
			}
		}
	}
	return h, nil
}

// addrs lists the addresses of a link, by its index.
//
//	ip addr show dev LINK
func (c rtnl) addrs(link int) ([]Raw, error) {
	list, err := c.dump(unix.RTM_GETADDR, make([]byte, addrKind))
	return slices.DeleteFunc(list, func(r Raw) bool { return (address{r}).index() != link }), err
}

// addRoutes reads the routes by the link, and those that are alike but lead
// elsewhere: they decide where a new one belongs.
func addRoutes(c rtnl, h *Holdings, family int) error {
	list, err := c.dump(unix.RTM_GETROUTE, rtmsg(family))
	if err != nil {
		return err
	}
	for i, r := range list {
		r := route{r}
		if !r.uses(h.Index) || r.automatic() {
			continue
		}
		h.Routes = append(h.Routes, r.Raw)
		h.name(r)
		ahead := slices.ContainsFunc(list[:i], func(o Raw) bool { return (route{o}).tied(r) })
		behind := slices.ContainsFunc(list[i+1:], func(o Raw) bool { return (route{o}).tied(r) && !(route{o}).uses(h.Index) })
		h.First = append(h.First, !ahead && behind)
	}
	return nil
}

// name remembers the names of the other links of a multipath route.
func (h *Holdings) name(r route) {
	for _, hop := range r.hops() {
		if l, err := net.InterfaceByIndex(hop.index); err == nil && hop.index != h.Index {
			if h.Names == nil {
				h.Names = map[int]string{}
			}
			h.Names[hop.index] = l.Name
		}
	}
}

func bootSeconds() int64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) //nolint:errcheck // it has no way to fail
	return now.Sec
}
