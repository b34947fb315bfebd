package dhcp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// ErrFull is wrapped by the error of a network that has no address left.
var ErrFull = errors.New("every address is taken")

// ErrTaken is wrapped by the error of an address that another VM has.
var ErrTaken = errors.New("another VM has it")

const (
	leaseTime     = time.Hour       // of the guests' leases; they renew after half of it
	offerTime     = time.Minute     // the client may take an offer that long
	badTime       = 5 * time.Minute // the pool does not offer an address that another host uses, that long
	maxLeases     = 4096            // of all clients; guests can make up MACs
	maxRemembered = 8192            // MACs whose address the pool knows after their lease
)

// mac is a MAC address that can be a map's key.
type mac [6]byte

func toMAC(a net.HardwareAddr) mac { return mac(a[:6]) }

func (m mac) String() string { return net.HardwareAddr(m[:]).String() }

// lease is one client's address and what belongs to it.
type lease struct {
	address  netip.Addr
	reserved bool      // for a VM's NIC: it never ends, whatever the clock says
	bound    bool      // acknowledged, not only offered
	ends     time.Time // monotonic; unless reserved
	host     string    // the client's name, "" if it has none
}

// pool hands out the addresses of one prefix. VMs' NICs get theirs from the lower three
// quarters, other clients (a second MAC in a guest, a container on the bridge) from the
// last quarter: so a flood of clients takes no VM's address.
type pool struct {
	prefix  netip.Prefix
	gateway netip.Addr
	leases  map[mac]*lease
	holders map[netip.Addr]mac
	last    map[mac]netip.Addr // the last address of a MAC
	bad     map[netip.Addr]time.Time
	now     func() time.Time
}

func newPool(prefix netip.Prefix, gateway netip.Addr) *pool {
	return &pool{
		prefix: prefix.Masked(), gateway: gateway, now: time.Now,
		leases: map[mac]*lease{}, holders: map[netip.Addr]mac{}, last: map[mac]netip.Addr{}, bad: map[netip.Addr]time.Time{},
	}
}

// span is a range of addresses: the first's number, and how many.
type span struct{ first, count uint32 }

// spans returns the ranges of VMs' NICs and of other clients. The network's address, the
// gateway's and the broadcast address are in neither.
func (p *pool) spans() (vms, others span) {
	hosts := uint32(1)<<(32-p.prefix.Bits()) - 3
	first := number(p.prefix.Addr()) + 2
	rest := max(hosts/4, 1)
	return span{first, hosts - rest}, span{first + hosts - rest, rest}
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func (s span) has(a netip.Addr) bool { return number(a)-s.first < s.count }

// usable reports whether a client may have the address at all.
func (p *pool) usable(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	vms, others := p.spans()
	return a != p.gateway && (vms.has(a) || others.has(a))
}

// reserve gives a VM's NIC its address: wish, else the NIC's last one, else one derived
// from its MAC. It takes the address from another client, unless that is a VM's NIC.
func (p *pool) reserve(m mac, wish netip.Addr, host string) (netip.Addr, error) {
	a := wish
	if wish.IsValid() {
		if other, ok := p.holders[wish]; ok && other != m && p.leases[other].reserved {
			return wish, fmt.Errorf("reserve %s: %w: %q", wish, ErrTaken, p.leases[other].host)
		}
	} else if a = p.derive(m); !a.IsValid() {
		return a, fmt.Errorf("reserve an address of %s: %w", p.prefix, ErrFull)
	}
	if other, ok := p.holders[a]; ok && other != m {
		p.free(other)
	}
	p.free(m)
	p.leases[m] = &lease{address: a, reserved: true, host: host}
	p.holders[a] = m
	return a, nil
}

// A NIC is a VM's NIC that wants an address.
type NIC struct {
	MAC  net.HardwareAddr
	Wish netip.Addr // its address of the profile, if that names one
}

// AddressesOf are the addresses that a VM's NICs get of a subnet whose other addresses are
// free: each its wish, or else one derived from its MAC.
func AddressesOf(subnet netip.Prefix, gateway netip.Addr, nics []NIC) ([]netip.Addr, error) {
	p := newPool(subnet, gateway)
	addresses := make([]netip.Addr, len(nics))
	for i, nic := range nics {
		var err error
		if addresses[i], err = p.reserve(toMAC(nic.MAC), nic.Wish, ""); err != nil {
			return nil, err
		}
	}
	return addresses, nil
}

// derive finds a VM's address: its last one, else the first free one from the place that
// its MAC's hash gives, and only then one of the other clients' range.
func (p *pool) derive(m mac) netip.Addr {
	vms, others := p.spans()
	free := func(a netip.Addr) bool {
		other, held := p.holders[a]
		return a != p.gateway && (!held || !p.leases[other].reserved)
	}
	if a, ok := p.last[m]; ok && p.usable(a) && free(a) {
		return a
	}
	if a := search(vms, m, free); a.IsValid() {
		return a
	}
	return search(others, m, free)
}

func search(s span, m mac, free func(netip.Addr) bool) netip.Addr {
	if s.count == 0 {
		return netip.Addr{}
	}
	sum := sha256.Sum256(m[:])
	start := binary.BigEndian.Uint32(sum[:4]) % s.count
	for i := range s.count {
		if a := address(s.first + (start+i)%s.count); free(a) {
			return a
		}
	}
	return netip.Addr{}
}

// find returns a client's lease, nil if it has none.
func (p *pool) find(m mac) *lease { return p.leases[m] }

// offer returns the client's lease. It makes one if there is none: with the address wish
// if the client may have that, else with its last one, else with a derived one. It returns
// nil when no address is left.
func (p *pool) offer(m mac, wish netip.Addr) *lease {
	if l := p.leases[m]; l != nil {
		return l
	}
	p.expire()
	_, others := p.spans()
	if len(p.leases) >= maxLeases {
		return nil
	}
	free := func(a netip.Addr) bool {
		_, held := p.holders[a]
		return others.has(a) && !held && a != p.gateway && p.bad[a].IsZero()
	}
	a := wish
	if !a.Is4() || !free(a) {
		a = p.last[m]
	}
	if !a.Is4() || !free(a) {
		a = search(others, m, free)
	}
	if !a.IsValid() {
		return nil
	}
	l := &lease{address: a, ends: p.now().Add(offerTime)}
	p.leases[m], p.holders[a] = l, m
	return l
}

// bind turns an offer into a lease, or makes a lease longer.
func (p *pool) bind(m mac, l *lease) (isNew bool) {
	isNew = !l.bound
	l.bound = true
	if !l.reserved {
		l.ends = p.now().Add(leaseTime)
	}
	p.remember(m, l.address)
	return isNew
}

func (p *pool) remember(m mac, a netip.Addr) {
	if len(p.last) >= maxRemembered {
		for old := range p.last { // any one: most are a flood's
			delete(p.last, old)
			break
		}
	}
	p.last[m] = a
}

// shun takes an address out of use for a while.
func (p *pool) shun(a netip.Addr) { p.bad[a] = p.now().Add(badTime) }

func (p *pool) free(m mac) {
	if l := p.leases[m]; l != nil {
		delete(p.holders, l.address)
		delete(p.leases, m)
	}
}

// expire frees the leases that have ended.
func (p *pool) expire() {
	now := p.now()
	for m, l := range p.leases {
		if !l.reserved && now.After(l.ends) {
			p.free(m)
		}
	}
	for a, until := range p.bad {
		if now.After(until) {
			delete(p.bad, a)
		}
	}
}
