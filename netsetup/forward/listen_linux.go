package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/host"
)

// Error says which forward could not be had.
type Error struct {
	Forward Forward
	Err     error // of the kernel, such as unix.EADDRINUSE
}

func (e *Error) Error() string {
	return fmt.Sprintf("listen at %s/%s: %v", e.Forward.Listens(), e.Forward.Proto, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// NoAddress refuses the forward where the bind failed with unix.EADDRNOTAVAIL.
func (e *Error) NoAddress() error {
	return host.Refuse("the host has no address %s: name one that `ip address` shows, or * for all", e.Forward.Address)
}

// backlog is how many connections may wait for the relay; the kernel lowers it to
// net.core.somaxconn.
const backlog = 4096

// ListenAll opens the sockets of all forwards, or of none: the error is an Error. In the place
// of a forward at ::1 that the host lacks it returns nil, if the forwards have the same at
// 127.0.0.1: a profile that names no address asks for both.
func ListenAll(forwards []Forward) ([]*os.File, error) {
	files := make([]*os.File, len(forwards))
	for i, f := range forwards {
		file, err := Listen(f)
		if noIPv6(err) && slices.ContainsFunc(forwards, func(o Forward) bool { return Twins(f, o) }) {
			continue
		}
		if err != nil {
			CloseAll(files)
			return nil, err
		}
		files[i] = file
	}
	return files, nil
}

// CloseAll closes the files, of which some may be nil.
func CloseAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// noIPv6 reports whether the error is that of a host without the address ::1.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT)
}

// Listen opens a forward's socket in the calling thread's network namespace: of TCP it listens;
// of UDP it tells the address that each packet was sent to (IP_PKTINFO and IPV6_RECVPKTINFO in
// ip(7) and ipv6(7)), by which the answer has to leave. It shares its port with no other socket:
// the bind is the check whether the port is free. A port below net.ipv4.ip_unprivileged_port_start
// needs CAP_NET_BIND_SERVICE. The error is an Error.
func Listen(f Forward) (*os.File, error) {
	fd, err := listen(f, !f.Address.IsValid() || f.Address.Is6())
	if errors.Is(err, unix.EAFNOSUPPORT) && !f.Address.IsValid() { // a kernel without IPv6
		fd, err = listen(f, false)
	}
	if err != nil {
		return nil, &Error{f, err}
	}
	return os.NewFile(uintptr(fd), f.String()), nil
}

func listen(f Forward, six bool) (int, error) {
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if six {
		family = unix.AF_INET6
	}
	if f.Proto == UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	err = setOptions(fd, f, six)
	if err == nil {
		err = unix.Bind(fd, sockaddr(f, six))
	}
	if err == nil && f.Proto == TCP {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd) //nolint:errcheck // nothing was received on it
		return 0, err
	}
	return fd, nil
}

// setOptions sets what must be set before the bind. SO_REUSEADDR lets a TCP socket be bound
// beside connections of an earlier one that are in TIME_WAIT, and beside no listening socket;
// of UDP it would share the port.
func setOptions(fd int, f Forward, six bool) error {
	type option struct{ level, name, value int }
	var options []option
	if f.Proto == TCP {
		options = append(options, option{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1})
	}
	if six {
		only := 0
		if f.Address.IsValid() {
			only = 1
		}
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only})
	}
	if f.Proto == UDP && six {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1})
	} else if f.Proto == UDP {
		options = append(options, option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1})
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

func sockaddr(f Forward, six bool) unix.Sockaddr {
	if !six {
		a := f.Address
		if !a.IsValid() {
			a = netip.IPv4Unspecified()
		}
		return &unix.SockaddrInet4{Port: int(f.Port), Addr: a.As4()}
	}
	a := f.Address
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	return &unix.SockaddrInet6{Port: int(f.Port), Addr: a.As16()}
}
