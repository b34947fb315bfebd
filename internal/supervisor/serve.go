package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/legible"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/internal/perm"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
)

const (
	// lockTime is how long a VM's lock may be held by a process that only removes what
	// a dead supervisor left.
	lockTime = time.Second
	// lockPoll is how often the lock is tried meanwhile.
	lockPoll = 10 * time.Millisecond
)

// lockName takes the VM's lock.
func (s *session) lockName(ctx context.Context) error {
	if err := s.trust(); err != nil {
		return fmt.Errorf("run VM %q: %w", s.profile.Name, err)
	}
	lock, err := s.tryLock(ctx)
	if err != nil {
		return fmt.Errorf("run VM %q: %w", s.profile.Name, s.unusable("run directory", s.RunDir, err))
	}
	s.onClose(func(context.Context) error { return asuser.AsRoot(lock.Release) })
	return nil
}

// trust refuses directories in which another user could change qnet's files. Behind sudo the state
// directory may be that user's.
func (s *session) trust() error {
	if err := rundir.Trust(s.RunDir); err != nil {
		return &rundir.Unusable{What: "run directory", Dir: s.RunDir, Err: err}
	}
	if err := rundir.Trust(s.StateDir, s.callers()...); err != nil {
		return &rundir.Unusable{What: "state directory", Dir: s.StateDir, Err: err}
	}
	return nil
}

// unusable says that a directory of qnet's cannot hold its files. Where the VM has
// networks, a user lacks the rights for those first of all.
func (s *session) unusable(what, dir string, err error) error {
	var errno unix.Errno
	switch {
	case !errors.As(err, &errno):
		return err // such as that the VM runs
	case errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 && len(nics.NetworksOf(s.profile)) > 0:
		return fmt.Errorf("%w: %w", host.ErrNoPermission, err)
	}
	return &rundir.Unusable{What: what, Dir: dir, Err: err}
}

// tryLock tells a VM that runs from one whose leftovers are just being removed.
func (s *session) tryLock(ctx context.Context) (*lockfile.Lock, error) {
	for begin := time.Now(); ; {
		lock, err := lockfile.Try(s.place.Lock())
		if !errors.Is(err, lockfile.ErrHeld) {
			return lock, err
		}
		other, err := control.Find(ctx, s.RunDir, s.profile.Name)
		if err == nil {
			return nil, fmt.Errorf("%w, as process %d from %s", ErrRunning, other.PID, legible.Text(other.Profile))
		}
		if time.Since(begin) > lockTime {
			return nil, ErrRunning
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll): // the kernel sends no event when a lock is given up
		}
	}
}

// listen makes the VM's directory and control socket. The socket is the user's behind
// sudo.
func (s *session) listen(ctx context.Context) error {
	if err := s.place.Make(); err != nil {
		return fmt.Errorf("make run directory: %w", s.unusable("run directory", s.RunDir, err))
	}
	s.onClose(func(context.Context) error { return asuser.AsRoot(s.place.Remove) })
	os.Remove(s.place.Socket()) // a dead supervisor's; we hold the lock
	l, err := perm.Listen(ctx, "unix", s.place.Socket())
	if err != nil {
		return fmt.Errorf("listen for qnet stop: %w", s.unusable("run directory", s.RunDir, err))
	}
	s.onClose(func(context.Context) error { return l.Close() })
	// The directory stays root's: a keeper, which is root without its powers over
	// files, may have to remove it.
	if err := s.User.Chown(s.place.Socket()); err != nil {
		return fmt.Errorf("listen for qnet stop: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = control.Serve(l, s, s.callers()...)
	return nil
}

// callers are the users besides root whose commands the VM heeds. The process may still be
// root's.
func (s *session) callers() []uint32 {
	if s.User == nil {
		return nil
	}
	return []uint32{s.User.UID}
}

// State describes the VM, for control.VM.
func (s *session) State() control.State {
	s.mu.Lock()
	state := s.state
	state.NICs = slices.Clone(s.state.NICs)
	s.mu.Unlock() // the relay asks for the guest's address meanwhile
	for i := range state.NICs {
		state.NICs[i].Forwards = s.forwards.Describe(i)
	}
	return state
}

// Stop stops the VM, for control.VM.
func (s *session) Stop(force bool, timeout time.Duration) {
	s.stops.ask(stopRequest{force: force, timeout: timeout})
}

// Rungs follows the shutdown ladder, for control.VM.
func (s *session) Rungs(f func(rung string)) { s.stops.follow(f) }

// Console serves a client of the console, for control.VM.
func (s *session) Console(in io.Reader, out io.WriteCloser) {
	s.mu.Lock()
	c := s.console
	s.mu.Unlock()
	if c == nil {
		out.Close() // the VM still starts
		return
	}
	c.Attach(in, out)
}
