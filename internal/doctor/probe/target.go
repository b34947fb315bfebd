package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// ErrTarget tells that a text is no HOST:PORT.
var ErrTarget = errors.New("it is not HOST:PORT")

// targetTimeout bounds the look-up of a target's name.
const targetTimeout = 5 * time.Second

// LookupTarget returns the address and port of HOST:PORT. It returns ErrTarget where the
// text is not one, and waits up to 5 s for the name's address.
func LookupTarget(ctx context.Context, target string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return netip.AddrPort{}, ErrTarget
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return netip.AddrPort{}, ErrTarget
	}
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up --target: %w", err)
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(number)), nil
}
