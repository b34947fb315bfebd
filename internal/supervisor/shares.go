package supervisor

import (
	"context"
	"errors"

	"github.com/qnet-vm/qnet/internal/asuser"
)

// serveShares starts what shares the profile's folders. One serves one QEMU: those of a
// QEMU that was started before are ended.
func (s *session) serveShares() error {
	if len(s.profile.Shares) == 0 {
		return nil
	}
	log, err := s.programLog("virtiofsd.log")
	if err != nil {
		return err
	}
	s.onClose(func(context.Context) error { return s.files.Unserve() })
	return asuser.AsRoot(func() error {
		return errors.Join(s.files.Unserve(), s.files.Serve(s.place.Dir(), log))
	})
}
