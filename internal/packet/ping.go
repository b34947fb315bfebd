package packet

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Ping sends one ICMP echo request from the host to an IPv4 address, and reports
// whether the address answers before ctx ends. The error says why the host cannot ask:
// it has no route, or the process has neither CAP_NET_RAW nor a group in the sysctl
// net.ipv4.ping_group_range (icmp(7)).
func Ping(ctx context.Context, a netip.Addr) (answers bool, err error) {
	if !a.Is4() {
		return false, fmt.Errorf("ping %s: it is not an IPv4 address", a)
	}
	c, to, err := listenICMP(a)
	if err != nil {
		return false, fmt.Errorf("ping %s: %w", a, err)
	}
	defer c.Close()                                                               //nolint:errcheck // nothing was written that could be lost
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) }) //nolint:errcheck // the read ends then
	defer stop()
	request := Echo{ID: 1, Seq: 1, Data: make([]byte, 56)} // the kernel sets the id of a ping socket
	rand.Read(request.Data)
	if _, err := c.WriteTo(request.Message(), to); err != nil {
		return false, fmt.Errorf("ping %s: %w", a, err)
	}
	for b := make([]byte, 1500); ; {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return false, nil
		}
		if addrOf(from) == a && echoes(b[:n], request.Data) {
			return true, nil
		}
	}
}

// listenICMP opens a ping socket (icmp(7)) or, where the host has none for this user, a raw one.
func listenICMP(a netip.Addr) (net.PacketConn, net.Addr, error) {
	ip := net.IP(a.AsSlice())
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		c, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
		return c, &net.IPAddr{IP: ip}, err
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close() // the connection has a copy
	c, err := net.FilePacketConn(f)
	return c, &net.UDPAddr{IP: ip}, err
}

func addrOf(from net.Addr) netip.Addr {
	var ip net.IP
	switch from := from.(type) {
	case *net.UDPAddr:
		ip = from.IP
	case *net.IPAddr:
		ip = from.IP
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// echoes reports whether a message is the reply to the echo request with the data.
func echoes(b, data []byte) bool {
	echo, ok := ParseEcho(b)
	return ok && echo.Reply && bytes.Equal(echo.Data, data)
}
