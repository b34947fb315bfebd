package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// undoTimeout bounds the wait for a keeper that undoes a network.
const undoTimeout = 30 * time.Second

// Options say where and how a VM runs. Functions may be nil.
type Options struct {
	RunDir, StateDir string
	Exe              []string     // argv that runs keeper.Main
	QEMU             string       // binary; "" finds it in the PATH
	Path             string       // the PATH
	Extra            []string     // further QEMU arguments
	AssumeYes        bool         // see keeper.Options
	Verbose          func(string) // gets each step done to the host
	Warn             func(string)
	Waits            func(string) // what is waited for that may take long; "" when it is over
	Rung             func(string) // gets each rung of the shutdown ladder, and "" at the VM's end
	User             *asuser.User
	Stdout           io.Writer // gets the console; nil discards it
	Terminal         *Terminal // gets the console in place of Stdout, and has its keys; nil without one
	Started          func()    // called when the vCPUs run
	Signals          <-chan os.Signal
}

// stateStarting is State.State until the vCPUs run.
const stateStarting = "starting"

// session is one VM's run; closers undo its steps.
type session struct {
	Options
	place   rundir.VM
	profile *profiles.Profile
	opener  opener
	config  qemu.Config
	salt    []byte
	regs    []*keeper.Registration
	taps    map[int][]*os.File // given to QEMU and the keepers, by NIC
	vhost   map[int][]*os.File // given to QEMU
	qemu    *qemu.Launched
	vm      *qemu.VM
	console *console
	stops   stopper
	closers []func() error

	mu    sync.Mutex // guards what follows, console once it is served, and vm for whom the keeper calls
	state State
	held  []net.Conn // of clients that wait for the end of the process
	log   *logFile   // of what the user should know; nil until it is open
}

// ErrInterrupted is of a VM that was asked to stop while it started.
var ErrInterrupted = errors.New("interrupted")

// Run runs the VM to its end. The error wraps ErrRunning, ErrInterrupted, a *FileError, a
// *qemu.ConfigError, a *qemu.ExitError, or netsetup's; a VM that its guest or
// its user ended is none.
func Run(ctx context.Context, p *profiles.Profile, o Options) (err error) {
	s := &session{Options: o, place: rundir.VM{RunDir: o.RunDir, Name: p.Name}, profile: p, opener: opener{user: o.User}}
	s.defaults()
	s.state = State{Name: p.Name, State: stateStarting, Profile: p.Path, PID: os.Getpid(), Started: time.Now()}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.stops.init(cancel)
	defer func() {
		if p := recover(); p != nil {
			err = internalError(p)
		}
		err = errors.Join(err, s.close())
		s.Waits("")
	}()
	go s.watchSignals()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"lock", s.lockName},
		{"listen", s.listen},
		{"check", s.check},
		{"launch", s.launch},
		{"join", s.join},
		{"await", s.awaitForwarding},
		{"drop", s.drop},
		{"start", s.start},
	} {
		err := step.do(ctx)
		if err == nil {
			err = failpoint.Hit("supervisor did " + step.name)
		}
		if err == nil {
			continue
		}
		if s.stops.asked() && errors.Is(err, context.Canceled) {
			return fmt.Errorf("start VM %q: %w", p.Name, ErrInterrupted)
		}
		return err
	}
	return s.wait()
}

// close undoes what was done, last first, and goes on when something fails.
func (s *session) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.undo(s.closers[i]))
	}
	return errors.Join(errs...)
}

func (s *session) undo(closer func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = internalError(p)
		}
	}()
	return errors.Join(closer(), failpoint.Hit("supervisor undid a step"))
}

// internalError is a bug's, which must not leave the host changed.
func internalError(panicked any) error {
	return fmt.Errorf("internal error: %v\n%s", panicked, debug.Stack())
}

func (s *session) defaults() {
	quiet := func(string) {}
	if s.Verbose == nil {
		s.Verbose = quiet
	}
	if s.Warn == nil {
		s.Warn = quiet
	}
	if s.Waits == nil {
		s.Waits = quiet
	}
	if s.Rung == nil {
		s.Rung = quiet
	}
	s.stops.tell = s.Rung
	if s.Started == nil {
		s.Started = func() {}
	}
	if s.Stdout == nil {
		s.Stdout = io.Discard
	}
}

func (s *session) onClose(f func() error) { s.closers = append(s.closers, f) }

// lockTime is how long a lock may be held by somebody who only removes what a dead
// supervisor left.
const lockTime = time.Second

// tryLock tells a VM that runs from one that is just being cleaned up after.
func (s *session) tryLock() (*lockfile.Lock, error) {
	for begin := time.Now(); ; {
		lock, err := lockfile.Try(s.place.Lock())
		if !errors.Is(err, lockfile.ErrHeld) {
			return lock, err
		}
		other, err := Find(s.RunDir, s.profile.Name)
		if err == nil {
			return nil, fmt.Errorf("%w, as process %d from %s", ErrRunning, other.PID, other.Profile)
		}
		if time.Since(begin) > lockTime {
			return nil, ErrRunning
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // a lock tells nobody that it was given up
	}
}

func (s *session) lockName(context.Context) error {
	lock, err := s.tryLock()
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("run VM %q: %w: %w", s.profile.Name, host.ErrNoPermission, err)
	}
	if err != nil {
		return fmt.Errorf("run VM %q: %w", s.profile.Name, err)
	}
	s.onClose(func() error { return asuser.AsRoot(lock.Release) })
	return nil
}

// listen makes the directory and the control socket, which is the user's own.
func (s *session) listen(context.Context) error {
	if err := s.place.Make(); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	s.onClose(func() error { return asuser.AsRoot(s.place.Remove) })
	os.Remove(s.place.Socket()) // a dead supervisor's; we hold the lock
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.place.Socket(), Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for qnet stop: %w", err)
	}
	s.onClose(l.Close)
	// The directory stays root's: a keeper, which is root without its powers over
	// files, may have to remove it.
	if err := s.User.Chown(s.place.Socket()); err != nil {
		return fmt.Errorf("listen for qnet stop: %w", err)
	}
	if err := os.Chmod(s.place.Socket(), 0o600); err != nil {
		return fmt.Errorf("listen for qnet stop: %w", err)
	}
	go s.serve(l)
	return nil
}

// check checks all that can be checked before anything changes.
func (s *session) check(context.Context) error {
	binary, err := qemu.Find(s.Path, s.QEMU)
	if err != nil {
		return err
	}
	s.onClose(func() error { s.opener.close(); return nil })
	if s.config, err = s.opener.config(s.profile, binary, s.Extra); err != nil {
		return err
	}
	warnings, err := qemu.Check(s.config)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		s.Warn(w)
	}
	s.salt, err = journal.LoadSalt(s.StateDir)
	return err
}

// note tells the user something, now and in qnet.log: a VM in the background has
// nobody to tell it to.
func (s *session) note(text string) {
	s.Warn(text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log != nil {
		fmt.Fprintf(s.log, "%s %s\n", time.Now().Format(time.RFC3339), text)
	}
}

// openNotes opens qnet.log, as the user behind sudo.
func (s *session) openNotes() error {
	log, err := openLog(filepath.Join(logDir(s.StateDir, s.profile.Name), "qnet.log"))
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.mu.Lock()
	s.log = log
	s.mu.Unlock()
	s.onClose(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log = nil
		return log.Close()
	})
	return nil
}

// drop makes the process the user's behind sudo. What comes after it talks to
// QEMU and carries the guest's console.
func (s *session) drop(context.Context) error {
	if err := s.User.Drop(kvmGroup()...); err != nil {
		return err
	}
	return s.openNotes()
}

func (s *session) start(ctx context.Context) error {
	s.Waits("QEMU to start")
	s.describeNICs()
	launch := s.launchQEMU
	if s.qemu != nil {
		launch = s.relaunch
	}
	if err := launch(); err != nil {
		return err
	}
	var vm *qemu.VM
	err := asuser.AsRoot(func() (err error) {
		vm, err = s.qemu.Start(ctx)
		return err
	})
	if err != nil {
		return err
	}
	// The image locks and the taps are QEMU's alone from here on.
	s.opener.close()
	s.closeTaps()
	for _, r := range s.regs {
		for _, p := range r.Ports() {
			if p.File != nil {
				p.File.Close()
			}
		}
	}
	return s.started(vm)
}

func (s *session) started(vm *qemu.VM) error {
	s.mu.Lock()
	s.vm = vm
	s.mu.Unlock()
	s.onClose(func() error {
		// Nothing to do but when a later step of the start failed.
		return vm.Stop(context.Background(), qemu.StopOptions{Force: true})
	})
	log, err := openLog(LogPath(s.StateDir, s.profile.Name))
	if err != nil {
		return fmt.Errorf("open console log: %w", err)
	}
	s.onClose(log.Close)
	c := &console{guest: vm.Console(), log: log, out: s.Stdout, clients: map[chan []byte]struct{}{}}
	s.mu.Lock()
	s.console = c
	s.state.State, s.state.Accel, s.state.QEMU = "running", vm.Accel(), vm.PID()
	s.mu.Unlock()
	s.Waits("")
	if s.Terminal != nil {
		if err := s.giveTerminal(c); err != nil {
			return err
		}
	}
	s.Started()
	return nil
}

// giveTerminal gives the user's terminal to the guest's console.
func (s *session) giveTerminal(c *console) error {
	if err := s.Terminal.Begin(); err != nil {
		return fmt.Errorf("set terminal raw: %w", err)
	}
	s.onClose(s.Terminal.Restore)
	c.out = s.Terminal
	if s.Terminal.HasKeys() {
		go io.Copy(c.guest, s.Terminal.Keys(func() bool { //nolint:errcheck // ends with the process
			s.stops.ask(stopRequest{})
			return false
		}))
	}
	return nil
}

// wait carries the VM to its end, its own or the one asked for.
func (s *session) wait() error {
	pumped := make(chan struct{})
	go func() {
		s.console.pump()
		close(pumped)
	}()
	go s.stops.run(s.vm, func() { s.setState("stopping") })
	select {
	case <-s.vm.Ending():
	case <-s.vm.Done(): // its pipe lives on, in a grandchild
	}
	for _, r := range s.regs {
		r.Ending()
	}
	status := s.vm.Wait()
	err := failpoint.Hit("supervisor saw the end")
	<-pumped
	if err != nil || s.stops.asked() {
		return err
	}
	return status.Err()
}

func (s *session) setState(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.State = state
}

func (s *session) watchSignals() {
	for range s.Signals {
		s.stops.ask(stopRequest{})
	}
}
