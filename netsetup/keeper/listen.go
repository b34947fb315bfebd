package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/netsetup/forward"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// Listen opens the sockets of forwards with the caller's own rights, for a NIC that has no
// keeper, one in mode user: all, or none. As from Registration.Forward, that of a forward at ::1
// may be nil. The error is a ForwardError.
func (o Options) Listen(ctx context.Context, nic int, list []Forward) ([]*os.File, error) {
	files, err := forward.ListenAll(list)
	failed, ok := errors.AsType[*forward.Error](err)
	if !ok {
		return files, err
	}
	f := failed.Forward
	cause := failed.Err
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		cause = host.Refuse("%s port %d is taken%s: stop it, or forward another port", f.Proto, f.Port, o.holder(ctx, f))
	case errors.Is(err, unix.EACCES):
		cause = fmt.Errorf("%w: port %d is root's: forward a port from 1024 on, or run it by sudo", host.ErrNoPermission, f.Port)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		cause = failed.NoAddress()
	}
	return nil, &ForwardError{nic, f, cause}
}

// Settled is closed when the keeper has done for the VM's forwards what it does besides their
// sockets, or has died: How tells from then on.
func (r *Registration) Settled() <-chan struct{} { return r.settled }

// How returns how a forward of the NIC of that index is done, as the keeper said last: ByRelay or
// ByDNAT.
func (r *Registration) How(nic int, f Forward) string {
	for _, p := range r.now() {
		i := slices.IndexFunc(p.Forwards, func(have Forwarded) bool { return have.Forward == f })
		if p.NIC == nic && i >= 0 {
			return p.Forwards[i].How
		}
	}
	return ByRelay
}
