package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/packet"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/profiles"
)

const (
	keeperTime  = 800 * time.Millisecond // for each reply of the keeper's DHCP, which takes some milliseconds
	lanTime     = 4 * time.Second        // for each of a LAN's DHCP, which may try whether the address is in use
	nameTime    = 1200 * time.Millisecond
	silenceTime = 300 * time.Millisecond // no reply in that time proves that something is forbidden
)

// leaseOfKeeper takes the lease that the keeper has reserved. If that fails, it gives the
// guest that lease without DHCP, so that the next steps can be tried.
func (r *run) leaseOfKeeper(ctx context.Context) (string, error) {
	info, port := r.info, r.member.Ports()[0]
	lease, err := r.guest.DHCP(ctx, keeperTime)
	if err != nil {
		lease = guest.Lease{Address: port.Address, Prefix: info.Prefix, Gateway: info.Gateway, Resolver: info.Gateway, MTU: host.DefaultMTU}
	}
	if !lease.Gateway.IsValid() {
		lease.Gateway = info.Gateway // host-only offers no route; the forbidden packets go there
	}
	r.guest.Configure(lease)
	r.lease = lease
	if err == nil && lease.Address != port.Address {
		err = fmt.Errorf("got %s from %s, and %s is reserved: another DHCP server is on the network", lease.Address, lease.Server, port.Address)
	}
	if err == nil && !lease.Resolver.IsValid() {
		err = warned{fmt.Sprintf("%s, but no name server", lease.Address)}
	}
	return fmt.Sprintf("%s from %s", lease.Address, lease.Server), err
}

// leaseOfLAN takes a lease of the DHCP server on the LAN.
func (r *run) leaseOfLAN(ctx context.Context) (string, error) {
	lease, err := r.guest.DHCP(ctx, lanTime)
	r.lease = lease
	return fmt.Sprintf("%s from %s", lease.Address, lease.Server), err
}

func (r *run) gatewayARP(ctx context.Context) (string, error) {
	if !r.lease.Gateway.IsValid() {
		return "", skipped{"the lease names no gateway"}
	}
	mac, err := r.guest.Neighbor(ctx, r.lease.Gateway)
	return fmt.Sprintf("%s is at %s", r.lease.Gateway, mac), err
}

func (r *run) gatewayPing(ctx context.Context) (string, error) {
	took, err := r.guest.Ping(ctx, r.lease.Gateway, 84, guest.ReplyTime)
	var silence *guest.Silence
	if r.network.Mode == profiles.Bridge && errors.As(err, &silence) && !r.droppedHere(ctx, silence.Flow) {
		err = warned{fmt.Sprintf("%s answers ARP and no ping, as some routers do", r.lease.Gateway)}
	}
	return fmt.Sprintf("%s in %s", r.lease.Gateway, short(took)), err
}

func short(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// peer pings the second NIC of the probe, which plays another guest.
func (r *run) peer(ctx context.Context) (string, error) {
	other := r.member.Guests[1]
	l := linkLocal(1)
	if r.network.Mode != profiles.Private {
		l = guest.Lease{Address: r.member.Ports()[1].Address, Prefix: r.info.Prefix}
	}
	other.Configure(l)
	took, err := r.guest.Ping(ctx, l.Address, 84, guest.ReplyTime)
	return fmt.Sprintf("%s in %s", l.Address, short(took)), err
}

// hostName is the name that the keeper gives the host.
const hostName = "host.qnet"

func (r *run) ownName(ctx context.Context) (string, error) {
	if !r.lease.Resolver.IsValid() {
		return "", skipped{"the lease names no name server"}
	}
	addrs, err := r.guest.Resolve(ctx, hostName, nameTime)
	if err != nil {
		return "", err
	}
	if addrs[0] != r.info.Gateway {
		return "", fmt.Errorf("%s is %s, want %s: another name server answered", hostName, addrs[0], r.info.Gateway)
	}
	return fmt.Sprintf("%s is %s", hostName, addrs[0]), nil
}

// outsideName is the name outside that the guest resolves.
func (r *run) outsideName() string { return cmp.Or(r.options.Name, "example.com") }

func (r *run) nameOutside(ctx context.Context) (string, error) {
	name := r.outsideName()
	if !r.lease.Resolver.IsValid() {
		return "", skipped{"the lease names no name server"}
	}
	addrs, err := r.guest.Resolve(ctx, name, nameTime)
	var answer guest.AnswerError
	if errors.As(err, &answer) && (dnsmessage.RCode(answer) == dnsmessage.RCodeSuccess || dnsmessage.RCode(answer) == dnsmessage.RCodeNameError) {
		return fmt.Sprintf("%s: %s", name, err), nil // a name server that knows says so
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Sprintf("%s is %s", name, addrs[0]), nil
}

var errNoTarget = skipped{"the host has neither a default gateway nor a resolver to connect to; name a target"}

// connect tries all targets at once. One that replies is enough.
func (r *run) connect(ctx context.Context) (string, error) {
	if len(r.targets) == 0 {
		return "", r.noTarget()
	}
	results := make([]guest.Connection, len(r.targets))
	errs := make([]error, len(r.targets))
	var tries sync.WaitGroup
	for i, to := range r.targets {
		tries.Go(func() { results[i], errs[i] = r.guest.Connect(ctx, to, guest.ReplyTime) })
	}
	tries.Wait()
	for i, c := range results {
		if errs[i] == nil && c.Refused && r.droppedHere(ctx, c.Flow) {
			errs[i] = &Reset{c.Flow}
		}
		if errs[i] != nil {
			continue
		}
		how := fmt.Sprintf("mss %d", c.MSS)
		if c.Refused {
			how = "refused, so it is reached"
		}
		return fmt.Sprintf("%s in %s, %s", r.targets[i], short(c.Took), how), nil
	}
	return "", errs[0]
}

// Reset is the error about a connection that a filter of the host reset in the name of
// the peer.
type Reset struct{ Flow guest.Flow }

func (e *Reset) Error() string { return e.Flow.String() + ": reset by a filter of this host" }

// droppedHere reports whether a rule of this host dropped a packet. Then a reply to it
// comes from the host and not from the peer.
func (r *run) droppedHere(ctx context.Context, f guest.Flow) bool {
	_, drop := dropped(r.trailOf(ctx, f).out, f)
	return drop
}

// noTarget is the error of a step without a target. A host without a default route is at
// fault for that.
func (r *run) noTarget() error {
	if _, ok := r.facts.DefaultLink(); !ok && r.network.Mode == profiles.NAT {
		return errors.New("the host has no default route, so its guests have none to the outside")
	}
	return errNoTarget
}

func (r *run) pingOutside(ctx context.Context) (string, error) {
	if len(r.targets) == 0 {
		return "", r.noTarget()
	}
	errs := make([]error, len(r.targets))
	var tries sync.WaitGroup
	for i, to := range r.targets {
		tries.Go(func() { _, errs[i] = r.guest.Ping(ctx, to.Addr(), 84, guest.ReplyTime) })
	}
	tries.Wait()
	for i, to := range r.targets {
		if errs[i] == nil {
			r.pinged = to.Addr()
			return r.pinged.String(), nil
		}
	}
	return "", errs[0]
}

// fullSize sends a packet of the guest's MTU that may not be fragmented (F42).
func (r *run) fullSize(ctx context.Context) (string, error) {
	if !r.pinged.IsValid() {
		return "", skipped{"nothing outside answers ping"}
	}
	mtu := r.guest.MTU()
	_, err := r.guest.Ping(ctx, r.pinged, mtu, guest.ReplyTime)
	var icmpErr *guest.ICMPError
	var silence *guest.Silence
	switch {
	case err == nil:
		return fmt.Sprintf("%d bytes to %s", mtu, r.pinged), nil
	case errors.As(err, &icmpErr) && icmpErr.MTU != 0:
		return fmt.Sprintf("%s; guests take that up", icmpErr), nil
	case !errors.As(err, &silence):
		return "", err
	}
	best := r.guest.Passes(ctx, r.pinged, mtu)
	return "", &BlackHole{Silence: silence, Full: mtu, Passes: best}
}

// BlackHole is the error about large packets that vanish without the ICMP error that
// tells a guest the MTU.
type BlackHole struct {
	*guest.Silence
	Full, Passes int // bytes; Passes is 0 if not even 576 do
}

func (e *BlackHole) Error() string {
	return fmt.Sprintf("%d bytes to %s vanish without an ICMP error, %d pass", e.Full, e.Flow.Dst, e.Passes)
}

// Unwrap returns the silence.
func (e *BlackHole) Unwrap() error { return e.Silence }

// outsideClosed tries what host-only forbids: to reach the outside by the host.
func (r *run) outsideClosed(ctx context.Context) (string, error) {
	if len(r.targets) == 0 {
		return "", errNoTarget
	}
	return r.silent(ctx, "no way beyond the host", func(ctx context.Context) []string {
		var open []string
		for _, to := range r.targets {
			if _, err := r.guest.Ping(ctx, to.Addr(), 84, silenceTime); err == nil {
				open = append(open, "reached "+to.Addr().String())
			}
		}
		return open
	})
}

// hostHidden tries what private forbids: to reach the host by any of its addresses, with
// ARP and with the MAC of the bridge.
func (r *run) hostHidden(ctx context.Context) (string, error) {
	var bridge net.HardwareAddr
	if l, ok := r.facts.Link(r.info.Bridge); ok {
		bridge = l.MAC
	}
	return r.silent(ctx, "the host answers neither ARP nor ping", func(ctx context.Context) []string {
		found := make(chan string)
		var tries sync.WaitGroup
		for _, a := range r.hostAddresses() {
			tries.Go(func() {
				if _, err := r.guest.WhoHas(ctx, a, silenceTime); err == nil {
					found <- "the host answers ARP for " + a.String()
				}
			})
			if bridge == nil {
				continue
			}
			tries.Go(func() {
				p := packet.IP{SrcMAC: r.guest.MAC, DstMAC: bridge, Src: r.guest.Lease().Address, Dst: a}
				if _, err := r.guest.PingPacket(ctx, p, 84, silenceTime); err == nil {
					found <- "the host answers ping for " + a.String()
				}
			})
		}
		go func() {
			tries.Wait()
			close(found)
		}()
		var open []string
		for text := range found {
			open = append(open, text)
		}
		return open
	})
}

// strange is an address of no host (RFC 5737) that a guest gives itself.
var strange = netip.AddrFrom4([4]byte{198, 51, 100, 254})

// borrowed tries to send from an address outside the network, which is forbidden. A reply
// of the host would go elsewhere, so the trace has to say what happens.
func (r *run) borrowed(ctx context.Context) (string, error) {
	if r.tracer == nil {
		return "", skipped{"packets cannot be traced here"}
	}
	mac, err := r.guest.Neighbor(ctx, r.lease.Gateway)
	if err != nil {
		return "", skipped{"the gateway is not reached"}
	}
	p := packet.IP{
		SrcMAC: r.guest.MAC, DstMAC: mac, Src: strange, Dst: r.lease.Gateway, Protocol: guest.ICMP, Payload: guest.EchoRequest(r.guest.NextID(), 1, 56),
	}
	if err := r.guest.Send(p.Frame()); err != nil {
		return "", err
	}
	flow := guest.FlowOf(p)
	t := r.trailUntil(ctx, flow, func(t trail) bool {
		_, drop := dropped(t.out, flow)
		return drop
	})
	if s, ok := dropped(t.out, flow); ok {
		return fmt.Sprintf("%s is dropped at %s by table %s %s", strange, s.at.hook, s.Family, s.Table), nil
	}
	if len(t.out) == 0 {
		return "", skipped{"the packet does not show in the trace"}
	}
	return "", fmt.Errorf("the mode forbids it: a packet from %s, which is none of the network's, came to the host", strange)
}

// silent tries what is forbidden. It returns the promise if nothing was reached.
func (r *run) silent(ctx context.Context, promise string, try func(context.Context) []string) (string, error) {
	if open := try(ctx); len(open) > 0 {
		return "", fmt.Errorf("the mode forbids it: %s", strings.Join(open, ", "))
	}
	return promise, nil
}

// hostAddresses are the IPv4 addresses of the host.
func (r *run) hostAddresses() []netip.Addr {
	var addrs []netip.Addr
	for _, l := range r.facts.Links {
		for _, p := range l.Addresses {
			if p.Addr().Is4() && !l.Loopback {
				addrs = append(addrs, p.Addr())
			}
		}
	}
	return addrs
}
