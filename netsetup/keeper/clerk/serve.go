package clerk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/resolvconf"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/dhcp6"
	"github.com/qnet-vm/qnet/netsetup/dns"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// hostName is how guests call the host.
const hostName = "host"

// confTime bounds the wait for the keeper's answer about name servers. The last ones stand
// meanwhile.
const confTime = 2 * time.Second

// server is a clerk's process.
type server struct {
	keeper *net.UnixConn
	fd     int // the same socket
	net    Network
	dhcp   *dhcp.Server
	dhcp6  *dhcp6.Server // nil of a network without IPv6
	filter *filter

	mu   sync.Mutex // guards what follows; who holds it has heeded all orders that came before
	b    []byte
	conf chan resolvconf.Conf // the keeper's answers
	last resolvconf.Conf      // used by one goroutine of the DNS server at a time
}

// serve does the keeper's first order, and returns when the keeper is gone.
func serve(conn *net.UnixConn) error {
	s := &server{keeper: conn, b: make([]byte, 64<<10), conf: make(chan resolvconf.Conf, 1)}
	s.filter = newFilter(func(a netip.Addr) bool { return s.reverse(a) != "" }, s.say)
	first, err := s.first()
	if err == nil {
		err = failpoint.Hit("clerk knows its network")
	}
	if err != nil {
		return err
	}
	names, err := s.names(first)
	if err != nil {
		return err
	}
	var answers []int
	for _, n := range names {
		fd, fdErr := n.Descriptor()
		answers, err = append(answers, fd), errors.Join(err, fdErr)
	}
	if err == nil {
		err = giveUp(answers...)
	}
	if err == nil {
		err = failpoint.Hit("clerk gave up its rights")
	}
	if err != nil {
		return err
	}
	var services sync.WaitGroup
	defer services.Wait()
	for _, n := range names {
		services.Go(n.Serve)
		defer n.Close() //nolint:errcheck // the process ends
	}
	services.Go(func() { s.dhcp.Serve() }) //nolint:errcheck // the bridge is gone: the keeper makes it anew
	defer s.dhcp.Close()                   //nolint:errcheck // as above
	if s.dhcp6 != nil {
		services.Go(func() { s.dhcp6.Serve() }) //nolint:errcheck // as above
		defer s.dhcp6.Close()                   //nolint:errcheck // as above
	}
	if err := failpoint.Hit("clerk serves"); err != nil {
		return err
	}
	return s.hear()
}

// first receives the first order, with all reservations, and makes the DHCP servers.
func (s *server) first() (order, error) {
	var o order
	if _, err := keeper.Receive(s.keeper, &o); err != nil {
		return o, err
	}
	if o.Serve == nil {
		return o, errors.New("serve: the first order is another one")
	}
	s.net = *o.Serve
	leases := os.NewFile(fdLeases, "leases")
	defer leases.Close()
	var err error
	s.dhcp, err = dhcp.New(dhcp.Config{
		Link: s.net.Link, MAC: s.net.MAC, Prefix: s.net.Prefix, Address: s.net.Address, MTU: s.net.MTU,
		Router: s.net.Router, Domain: s.net.Domain, PXE: s.net.PXE, Known: leases, Kept: s.kept, Before: s.heed,
		Warn: func(text string) { s.say(word{Warn: text}) },
	})
	if err == nil {
		err = s.dhcp.ListenOn(fdDHCP)
	}
	if fd := o.given().dhcp6; fd != 0 && err == nil {
		err = s.serve6(o, fd)
	}
	for more := o; err == nil; {
		s.do(more)
		if !more.More {
			break
		}
		more = order{}
		_, err = keeper.Receive(s.keeper, &more)
	}
	if err != nil {
		return o, err
	}
	raw, err := s.keeper.SyscallConn()
	if err != nil {
		return o, err
	}
	return o, raw.Control(func(fd uintptr) { s.fd = int(fd) })
}

// serve6 makes the server of router advertisements and DHCPv6.
func (s *server) serve6(first order, fd int) error {
	domain := s.net.Domain
	if !first.DNS6 {
		domain = ""
	}
	s.dhcp6 = dhcp6.New(dhcp6.Config{
		Link: s.net.Link, MAC: s.net.MAC, Prefix: s.net.Prefix6, Address: s.net.Address6, Router: s.net.Router6, MTU: s.net.MTU,
		Domain: domain, Before: s.heed, Warn: func(text string) { s.say(word{Warn: text}) },
	})
	return s.dhcp6.ListenOn(fd)
}

// names returns the DNS servers: none, one, or one for each family.
func (s *server) names(first order) ([]*dns.Server, error) {
	var list []*dns.Server
	g := first.given()
	for _, x := range []struct {
		udp, tcp     int
		address      netip.Addr
		prefix, also netip.Prefix
	}{
		{g.udp, g.tcp, s.net.Address, s.net.Prefix, s.net.Prefix6},
		{g.udp6, g.tcp6, s.net.Address6, s.net.Prefix6, s.net.Prefix},
	} {
		if x.udp == 0 {
			continue
		}
		var tcp *os.File
		if x.tcp != 0 {
			tcp = os.NewFile(uintptr(x.tcp), "tcp")
		}
		server, err := dns.Use(dns.Config{
			Address: x.address, Prefix: x.prefix, Also: x.also, Conf: s.nameServers, Lookup: s.lookup, Reverse: s.reverse, Filter: s.filter,
		}, os.NewFile(uintptr(x.udp), "udp"), tcp)
		if err != nil {
			return nil, err
		}
		list = append(list, server)
	}
	return list, nil
}

// hear heeds orders as they come, until the keeper is gone.
func (s *server) hear() error {
	raw, err := s.keeper.SyscallConn()
	if err != nil {
		return err
	}
	var end error
	err = raw.Read(func(uintptr) bool {
		end = s.drain()
		return end != nil
	})
	if errors.Is(end, io.EOF) {
		return nil
	}
	return errors.Join(err, end)
}

// heed heeds the orders that came so far. A guest's message that follows an order, however
// closely, is answered by it.
func (s *server) heed() { s.drain() } //nolint:errcheck // hear finds the keeper's end

// drain heeds the orders that came so far. It returns io.EOF when the keeper is gone.
func (s *server) drain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		n, _, err := unix.Recvfrom(s.fd, s.b, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("receive order: %w", err)
		case n == 0:
			return io.EOF
		}
		var o order
		if err := json.Unmarshal(s.b[:n], &o); err != nil {
			return fmt.Errorf("decode order: %w", err)
		}
		s.do(o)
	}
}

func (s *server) do(o order) {
	s.filter.do(o)
	for _, mac := range o.Release {
		s.dhcp.Release(mac)
	}
	for _, l := range o.Reserve {
		s.dhcp.Reserve(l.MAC, l.Address, l.VM) //nolint:errcheck // the keeper gives each address once
	}
	if s.dhcp6 != nil {
		s.do6(o)
	}
	if o.Conf != nil {
		select {
		case <-s.conf: // nobody waits for it any more
		default:
		}
		s.conf <- *o.Conf
	}
	if o.Leases {
		s.tellLeases()
	}
}

// do6 does what an order says of IPv6.
func (s *server) do6(o order) {
	for _, mac := range o.Release {
		s.dhcp6.Release(mac)
	}
	for _, l := range o.Reserve {
		if l.Address6.IsValid() {
			s.dhcp6.Reserve(l.MAC, l.Address6, l.VM)
			s.dhcp6.Saw(l.MAC, l.Seen6)
		}
	}
	if o.Saw != nil {
		s.dhcp6.Saw(o.Saw.MAC, o.Saw.Seen6)
	}
	if o.Router6 != nil {
		s.dhcp6.SetRouter(*o.Router6)
	}
	if o.Last {
		s.dhcp6.End()
	}
}

func (s *server) tellLeases() {
	list := s.dhcp.Leases()
	for i := range list {
		if mac, err := net.ParseMAC(list[i].MAC); err == nil && s.dhcp6 != nil {
			_, list[i].Bound6 = s.dhcp6.Taken(mac)
		}
	}
	for len(list) > part {
		s.say(word{Leases: list[:part]})
		list = list[part:]
	}
	s.say(word{Leases: list, End: true})
}

// say sends a word. Where the keeper is gone, hear finds that.
func (s *server) say(w word) { keeper.Send(s.keeper, w) } //nolint:errcheck // as said

func (s *server) kept(mac net.HardwareAddr, a netip.Addr) {
	s.say(word{Kept: &lease{MAC: mac, Address: a}})
}

// nameServers asks the keeper for the host's name servers.
func (s *server) nameServers() resolvconf.Conf {
	s.say(word{Conf: true})
	select {
	case s.last = <-s.conf:
	case <-time.After(confTime):
	}
	return s.last
}

func (s *server) lookup(name string) []netip.Addr {
	if name == hostName {
		return s.hosts()
	}
	s.heed()
	found := s.dhcp.Lookup(name)
	if found != nil && s.dhcp6 != nil {
		found = append(found, s.dhcp6.Lookup(name)...)
	}
	return found
}

// hosts are the host's addresses on the network.
func (s *server) hosts() []netip.Addr {
	if !s.net.Prefix6.IsValid() {
		return []netip.Addr{s.net.Address}
	}
	return []netip.Addr{s.net.Address, s.net.Address6}
}

func (s *server) reverse(a netip.Addr) string {
	if slices.Contains(s.hosts(), a) {
		return hostName
	}
	s.heed()
	if a.Is6() {
		if s.dhcp6 == nil {
			return ""
		}
		return s.dhcp6.Reverse(a)
	}
	return s.dhcp.Reverse(a)
}
