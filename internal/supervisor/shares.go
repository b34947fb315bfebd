package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// endsTogether is how long the ends of QEMU and of a virtiofsd may lie apart where one is
// the cause of the other.
const endsTogether = 2 * time.Second

// serveShares starts what shares the profile's folders. One serves one QEMU: those of a
// QEMU that was started before are ended.
func (s *session) serveShares() error {
	if len(s.profile.Shares) == 0 {
		return nil
	}
	var log *logFile
	err := s.User.Do(func() (err error) {
		log, err = openLog(s.logPath("virtiofsd.log"))
		return err
	})
	if err != nil {
		return fmt.Errorf("open log: %w", s.unusable("state directory", s.StateDir, err))
	}
	s.onClose(func(context.Context) error { return log.Close() })
	s.onClose(func(context.Context) error { return s.files.Unserve() })
	return asuser.AsRoot(func() error {
		return errors.Join(s.files.Unserve(), s.files.Serve(hardware.Serving{Exe: s.Stage, Dir: s.place.Dir(), Log: log}))
	})
}

// leaveShares closes the supervisor's own sockets of the shares: QEMU has its own, and
// virtiofsd ends with these.
func (s *session) leaveShares() {
	for _, d := range s.files.Serving() {
		d.Socket().Close()
	}
}

// watchShares tells when a virtiofsd ends before its VM. The guest's requests are not
// answered any more, and the guest's kernel waits for them.
func (s *session) watchShares() {
	for i, d := range s.files.Serving() {
		share := s.profile.Shares[i]
		go func() {
			<-d.Done()
			select {
			case <-s.vm.Ending():
			case <-s.vm.Done():
			case <-time.After(endsTogether):
				s.note(keeper.Note{
					Subject: s.subject(), Text: fmt.Sprintf("%v; programs in the guest that use %s hang", d.Err(), share.Mount),
					Remedy: fmt.Sprintf("end the VM by qnet stop --force %s, and run it again", s.profile.Name),
				})
			}
		}()
	}
}

// withShares adds to a failed start how a virtiofsd ended, which may be why.
func (s *session) withShares(err error) error {
	for _, d := range s.files.Serving() {
		if ended := d.Err(); err != nil && ended != nil {
			err = fmt.Errorf("%w\n%w", err, ended)
		}
	}
	return err
}
