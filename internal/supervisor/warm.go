package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/internal/warm"
)

// allNICs are the profile's NICs, by their index.
func (s *session) allNICs() (nics []int) {
	for i := range s.profile.NICs {
		nics = append(nics, i)
	}
	return nics
}

// becomeClone tells a guest that was booted for others that it is this VM, and plugs its cables,
// which are pulled until then: no frame of it has another's address. With an error the guest
// ends, and the next run begins its disk anew.
func (s *session) becomeClone(ctx context.Context) error {
	if !s.files.OnBase() {
		return nil
	}
	s.Progress("its guest to become this VM")
	settings, _ := s.files.Settings()
	err := warm.Name(ctx, s.vm.Agent(), warm.Identity{Settings: settings, Was: s.Warm.Name, Now: time.Now()})
	if err == nil {
		err = errors.Join(failpoint.Hit("supervisor did name"), s.files.Kept.Update(func(r *vmdir.Record) { r.Unnamed = false }))
	}
	if err == nil {
		err = s.setLinks(ctx, s.allNICs(), true)
	}
	if err != nil {
		return fmt.Errorf("begin VM %q from a booted guest: %w", s.profile.Name, err)
	}
	return nil
}

// bootForOthers waits for the end of the guest's first boot, and suspends it.
func (s *session) bootForOthers(ctx context.Context) error {
	s.Progress("the first boot, which is kept for all VMs like this one")
	err := warm.AwaitBoot(ctx, s.vm.Agent())
	if err == nil {
		s.Progress("the guest to be saved")
		err = s.setLinks(ctx, s.allNICs(), false)
	}
	if err == nil {
		err = warm.Settle(ctx, s.vm.Agent(), s.profile)
	}
	if err == nil {
		_, err = s.Do(ctx, "suspend", nil, s.Progress)
	}
	if err != nil {
		s.Stop(true, 0)
	}
	return err
}
