package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

const (
	// pulledTime is how long a guest's cable stays pulled: a guest under load still
	// notices, and asks for its lease again.
	pulledTime = time.Second
	// replugTimeout bounds the whole, if QEMU does not answer.
	replugTimeout = 30 * time.Second
)

// replug pulls the cables of NICs, given by their index in the profile, and plugs them
// again. A keeper asks for that when the network may have become another LAN.
func (s *session) replug(ctx context.Context, nics []int) {
	ctx, cancel := context.WithTimeout(ctx, replugTimeout)
	defer cancel()
	err := s.setLinks(ctx, nics, false)
	select {
	case <-ctx.Done():
	case <-time.After(pulledTime):
	}
	if err := errors.Join(err, s.setLinks(ctx, nics, true)); err != nil {
		s.note(keeper.Note{
			Subject: s.subject(), Text: fmt.Sprintf("the guest did not see that its network may have changed: %v", err),
			Remedy: "have it ask for its address again",
		})
	}
}

func (s *session) setLinks(ctx context.Context, nics []int, up bool) error {
	s.mu.Lock()
	vm := s.vm
	s.mu.Unlock()
	if vm == nil {
		return nil // the guest has not started: it has seen no other LAN
	}
	var errs []error
	for _, n := range nics {
		if place, ok := s.Place(n); ok {
			errs = append(errs, vm.SetLink(ctx, place, up))
		}
	}
	return errors.Join(errs...)
}

// Place returns, for forwards.Host too, the place that a NIC of the profile has among QEMU's, which has none
// of mode none.
func (s *session) Place(nic int) (place int, ok bool) {
	for i, n := range s.profile.NICs {
		if i == nic {
			return place, n.Mode != profiles.None
		}
		if n.Mode != profiles.None {
			place++
		}
	}
	return 0, false
}
