package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/netsetup/keeper"
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

// watchShares tells when a virtiofsd ends before its VM. The guest's requests are not
// answered any more, and the guest's kernel waits for them.
func (s *session) watchShares() {
	s.files.WatchServing(s.profile, s.vm.Ending(), func(mount string, err error) {
		s.note(keeper.Note{
			Subject: s.subject(), Text: fmt.Sprintf("%v; programs in the guest that use %s hang", err, mount),
			Remedy: fmt.Sprintf("end the VM by qnet stop --force %s, and run it again", s.profile.Name),
		})
	})
}
