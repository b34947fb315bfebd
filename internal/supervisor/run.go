package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/console"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/forwards"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/terminal"
	"github.com/qnet-vm/qnet/internal/warm"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// undoTimeout bounds the wait for a keeper that undoes a network.
const undoTimeout = 30 * time.Second

// Errors that callers test for.
var (
	// ErrRunning is wrapped by the error for a VM that has a supervisor already.
	ErrRunning = errors.New("it is running already")
	// ErrInterrupted is wrapped by the error for a VM that was asked to stop while it
	// started.
	ErrInterrupted = errors.New("interrupted")
)

// Options say where and how a VM runs. Functions may be nil.
type Options struct {
	RunDir, StateDir string
	Exe              []string           // argv that runs server.Main
	QEMU             string             // the binary; "" finds it in the PATH
	Path             string             // the PATH
	Extra            []string           // further QEMU arguments
	AssumeYes        bool               // see keeper.Options
	Warm             *warm.State        // the booted guest that a VM without a disk begins from; nil boots
	ForOthers        bool               // the guest is booted for others: it is suspended when its first boot is over
	Sandbox          sandbox.Mode       // what to do about a part of QEMU's confinement that is missing
	Fresh            bool               // boots, also a VM that was suspended, and forgets what was saved of it
	Verbose          func(string)       // gets each step that was done on the host
	Note             func(keeper.Note)  // gets what the user should know
	Progress         func(string)       // gets what takes long; "" when it is over
	Rung             func(string)       // gets each rung of the shutdown ladder, and "" at QEMU's end
	User             *asuser.User       // the user behind sudo; nil without one
	Files            hardware.Options   // where the VM's files are; without User, Progress and Warn
	Stdout           io.Writer          // gets the console; nil discards it
	Terminal         *terminal.Terminal // gets the console in place of Stdout, and has its keys; nil without one
	Started          func()             // called when the vCPUs run
	// Watch runs from then on, see qemu.VM.HaveWatched.
	Watch   func(ending <-chan struct{}, answers func(context.Context) error)
	Signals <-chan os.Signal
}

// session is one VM's run; closers undo its steps.
type session struct {
	Options
	place    rundir.VM
	profile  *profiles.Profile
	files    *hardware.Files // nil until they are open
	binary   string          // of QEMU
	config   machine.Config
	salt     []byte
	regs     []*keeper.Registration
	stewards keeper.Stewards
	nics     map[int]machine.NIC // by a NIC's index in the profile
	qemu     *qemu.Launched
	vm       *qemu.VM
	console  *console.Console
	stops    stopper
	images   []*os.File    // of the disks, to look at after they were closed
	resumed  *saved.Resume // nil for a guest that boots
	failed   error         // of a boot for others
	one      sync.Mutex    // held while an operation changes the guest's state

	showScreen func(*qemu.VM) // serves viewers; nil without a screen
	closers    []func(context.Context) error

	forwards *forwards.Forwards

	mu     sync.Mutex // guards what follows; console once it is served; vm for the keepers' calls
	state  control.State
	server *control.Server // nil until it serves
	notes  io.WriteCloser  // qnet.log; nil until it is open
	late   []byte          // lines that it did not take
}

// Run runs a VM from its profile to its end, and undoes everything. It returns nil for
// a VM that ended by its guest or its user. The error wraps ErrRunning, ErrInterrupted,
// a *hardware.FileError, a *machine.ConfigError, a *qemu.ExitError, netsetup's, or a
// *control.UndoError.
func Run(ctx context.Context, p *profiles.Profile, o Options) (err error) {
	s := newSession(p, o)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.stops.init(cancel)
	defer func() {
		if p := recover(); p != nil {
			err = internalError(p)
		}
		err = errors.Join(err, s.end(context.WithoutCancel(ctx)))
	}()
	go s.watchSignals()
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.wait(context.WithoutCancel(ctx))
}

func newSession(p *profiles.Profile, o Options) *session {
	s := &session{
		Options: o, place: rundir.VM{RunDir: o.RunDir, Name: p.Name}, profile: p,
		nics:  map[int]machine.NIC{},
		state: control.State{Name: p.Name, State: control.Starting, Profile: p.Path, Allowed: p.Allowed, PID: os.Getpid(), Started: time.Now()},
	}
	s.forwards = &forwards.Forwards{RunDir: o.RunDir, Profile: p, Host: s, Off: o.ForOthers}
	s.defaults()
	return s
}

func (s *session) defaults() {
	for _, f := range []*func(string){&s.Verbose, &s.Progress, &s.Rung} {
		if *f == nil {
			*f = func(string) {}
		}
	}
	if s.Note == nil {
		s.Note = func(keeper.Note) {}
	}
	s.stops.tell = s.Rung
	if s.Started == nil {
		s.Started = func() {}
	}
	if s.Stdout == nil {
		s.Stdout = io.Discard
	}
}

// begin starts the VM, step by step.
func (s *session) begin(ctx context.Context) error {
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
		if err != nil && s.stops.asked() && errors.Is(err, context.Canceled) {
			return fmt.Errorf("start VM %q: %w", s.profile.Name, ErrInterrupted)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end undoes the run. It returns a failed undo, writes it to qnet.log, and tells it to
// the clients that wait for the VM's end.
func (s *session) end(ctx context.Context) (err error) {
	s.stops.end()
	cause := s.close(ctx)
	if cause != nil {
		err = &control.UndoError{VM: s.profile.Name, Err: cause}
		s.record(err.Error())
	}
	err = errors.Join(err, s.closeNotes())
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	if server != nil {
		server.End(cause)
	}
	s.Progress("")
	return err
}

func (s *session) onClose(f func(context.Context) error) { s.closers = append(s.closers, f) }

// close undoes the steps, the last first, and goes on when one fails.
func (s *session) close(ctx context.Context) error {
	var errs []error
	for _, closer := range slices.Backward(s.closers) {
		errs = append(errs, s.undo(ctx, closer))
	}
	return errors.Join(errs...)
}

func (s *session) undo(ctx context.Context, closer func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = internalError(p)
		}
	}()
	return errors.Join(closer(ctx), failpoint.Hit("supervisor undid a step"))
}

// internalError is the error for a panic: a bug must not leave the host changed.
func internalError(panicked any) error {
	return fmt.Errorf("internal error: %v\n%s", panicked, debug.Stack())
}

// wait carries the VM to its end.
func (s *session) wait(ctx context.Context) error {
	pumped := make(chan struct{})
	go func() {
		s.console.Pump()
		close(pumped)
	}()
	watched := make(chan struct{})
	go func() {
		s.watchGuest(ctx)
		close(watched)
	}()
	replugged := make(chan struct{})
	go func() {
		s.goesOn(ctx)
		close(replugged)
	}()
	go s.stops.run(ctx, s.vm, func() { s.setState(control.Stopping) })
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
	<-watched
	<-replugged
	err = errors.Join(err, s.failed)
	if err != nil || s.stops.asked() && !status.Panicked {
		return err
	}
	return status.Err()
}

func (s *session) setState(phase control.Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.State, s.state.Reason, s.state.Disks = phase, "", nil
}

// watchSignals stops the VM by the first signal, and climbs the ladder by later ones.
func (s *session) watchSignals() {
	for sig := range s.Signals {
		s.stops.askBySignal(sig)
	}
}
