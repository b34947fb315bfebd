package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/profiles"
)

// pulledTime is how long a guest's cable stays pulled: a guest under load still
// notices, and asks for its lease again.
const pulledTime = time.Second

// replug pulls the cables of NICs, given by their index in the profile, and plugs
// them again: the keeper asks for it when they may be on another LAN.
func (s *session) replug(nics []int) {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	err := s.setLinks(ctx, nics, false)
	select {
	case <-ctx.Done():
	case <-time.After(pulledTime):
	}
	if err := errors.Join(err, s.setLinks(ctx, nics, true)); err != nil {
		s.note(fmt.Sprintf("the guest was not told that its network may have changed: %v", err))
	}
}

func (s *session) setLinks(ctx context.Context, nics []int, up bool) error {
	s.mu.Lock()
	vm := s.vm
	s.mu.Unlock()
	if vm == nil {
		return nil // it has seen nothing yet
	}
	var errs []error
	for _, n := range nics {
		if place, ok := s.placeOf(n); ok {
			errs = append(errs, vm.SetLink(ctx, place, up))
		}
	}
	return errors.Join(errs...)
}

// placeOf is a NIC's place among those that QEMU has: a NIC of mode none is none.
func (s *session) placeOf(nic int) (place int, ok bool) {
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
