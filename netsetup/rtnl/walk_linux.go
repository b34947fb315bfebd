package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/dump"
)

// WalkRoutes calls f with each route of all tables of a family, AF_INET or AF_INET6, in the
// kernel's order. It keeps none of them: a host that speaks BGP has a million. A route that f
// gets is of use until f returns; Clone copies it. The error wraps dump.ErrInterrupted if
// something changed meanwhile such that routes may be missing: see dump.Whole. It needs no
// rights.
//
//	ip route show table all
func WalkRoutes(family int, f func(Route)) error {
	err := walk(unix.RTM_GETROUTE, familyHeader(family), func(m Message) {
		// Without strict checks (Linux before 4.20) the kernel lists its cache, too.
		if r := (Route{m}); len(m) >= routeHeader && r.flags()&unix.RTM_F_CLONED == 0 {
			f(r)
		}
	})
	if err != nil {
		return fmt.Errorf("list by rtnetlink: %w", err)
	}
	return nil
}

// walkBuffer holds the most that the kernel sends in one datagram of a dump, 32 KiB, in bytes.
const walkBuffer = 64 << 10

// walk calls f with each message of a dump as it comes. It has a socket of its own, because
// package netlink returns a dump as a whole.
func walk(kind uint16, request []byte, f func(Message)) (err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1) //nolint:errcheck // Linux before 4.20 has none
	head := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(request))
	binary.NativeEndian.PutUint32(head, uint32(cap(head)))
	binary.NativeEndian.PutUint16(head[4:], kind)
	binary.NativeEndian.PutUint16(head[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	if err := unix.Sendto(fd, append(head, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	whole := true
	for buffer := make([]byte, walkBuffer); ; {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		done, err := datagram(buffer[:n], f, &whole)
		if err == nil && done && !whole {
			err = dump.ErrInterrupted
		}
		if done || err != nil {
			return err
		}
	}
}

// datagram calls f with each message of a datagram of a dump. It reports whether that was the
// last one, and clears whole if the kernel says that the dump was interrupted.
func datagram(b []byte, f func(Message), whole *bool) (done bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.NLMSG_HDRLEN || n > len(b) {
			return false, unix.EBADMSG
		}
		if binary.NativeEndian.Uint16(b[6:])&unix.NLM_F_DUMP_INTR != 0 {
			*whole = false
		}
		body := b[unix.NLMSG_HDRLEN:n]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR: // both begin with an errno, 0 for none
			if len(body) >= 4 {
				if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
					return true, unix.Errno(-code)
				}
			}
			return true, nil
		case unix.NLMSG_NOOP:
		default:
			f(body)
		}
		b = b[min(align4(n), len(b)):]
	}
	return false, nil
}
