package probe

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/internal/doctor/probe/guest"
	"github.com/qnet-vm/qnet/internal/packet"
)

// ipv6 tries what the keeper and the host promise guests over IPv6, on a network that has it.
func (r *run) ipv6(ctx context.Context) {
	if !r.info.Prefix6.IsValid() || !r.try(ctx, "IPv6 router", r.router6) {
		return
	}
	r.try(ctx, "IPv6 lease", r.lease6)
	if r.try(ctx, "IPv6 gateway ping", r.gatewayPing6) {
		r.try(ctx, "IPv6 name host.qnet", r.ownName6)
	}
}

// silent6 is the error about a packet of IPv6 that nothing answered, and where to look.
type silent6 struct {
	error
	look string
}

// Unwrap returns the error that says what was tried.
func (e *silent6) Unwrap() error { return e.error }

// unserved words an answer of the keeper that did not come.
func (r *run) unserved(err error) error {
	if !errors.Is(err, guest.ErrSilence) {
		return err
	}
	return &silent6{err, fmt.Sprintf("the network's keeper (process %d) is silent, or a chain of nftables at hook ingress, tc or XDP on %s drops the frame; look with: qnet net", r.info.KeeperPID, r.guest.Tap)}
}

// unheard words an answer of the host that did not come.
func (r *run) unheard(err error) error {
	if !errors.Is(err, guest.ErrSilence) {
		return err
	}
	return &silent6{err, fmt.Sprintf("a filter of this host for IPv6 drops it, or another program took %s from bridge %s; look with: nft list ruleset; ip6tables-save; ip -6 address show dev %s", r.info.Gateway6, r.info.Bridge, r.info.Bridge)}
}

// router6 asks for the router, and uses the address that the guest makes of the prefix.
func (r *run) router6(ctx context.Context) (string, error) {
	a, err := r.guest.Router(ctx, keeperTime)
	if err != nil {
		return "", r.unserved(fmt.Errorf("no router advertisement: %w", err))
	}
	if a.Prefix != r.info.Prefix6 {
		return "", fmt.Errorf("%s advertises %s, and the network's prefix is %s: another router is on the network", a.Router, a.Prefix, r.info.Prefix6)
	}
	r.guest.Use6(packet.EUI64(a.Prefix, r.guest.MAC))
	if a.Lifetime == 0 {
		return fmt.Sprintf("%s by %s, no default route", a.Prefix, a.Router), nil
	}
	return fmt.Sprintf("%s and the default route by %s", a.Prefix, a.Router), nil
}

func (r *run) lease6(ctx context.Context) (string, error) {
	given, err := r.guest.DHCPv6(ctx, keeperTime)
	if err != nil {
		return "", r.unserved(fmt.Errorf("no answer of DHCPv6: %w", err))
	}
	if want := r.member.Ports()[0].Address6; given.Address != want {
		return "", fmt.Errorf("got %s, and %s is reserved: another DHCP server is on the network", given.Address, want)
	}
	if !given.NameServer.IsValid() {
		err = warned{fmt.Sprintf("%s, but no name server", given.Address)}
	}
	return given.Address.String(), err
}

func (r *run) gatewayPing6(ctx context.Context) (string, error) {
	took, err := r.guest.Ping6(ctx, r.info.Gateway6, guest.ReplyTime)
	return fmt.Sprintf("%s in %s", r.info.Gateway6, short(took)), r.unheard(err)
}

func (r *run) ownName6(ctx context.Context) (string, error) {
	addrs, err := r.guest.Resolve6(ctx, r.info.Gateway6, hostName, nameTime)
	if err != nil {
		return "", r.unheard(err)
	}
	if addrs[0] != r.info.Gateway6 {
		return "", fmt.Errorf("%s is %s, want %s: another name server answered", hostName, addrs[0], r.info.Gateway6)
	}
	return fmt.Sprintf("%s is %s", hostName, addrs[0]), nil
}
