package server

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/internal/callers"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/dhcp"
	"github.com/qnet-vm/qnet/netsetup/egress"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/netsetup/keeper/clerk"
	"github.com/qnet-vm/qnet/netsetup/keeper/upkeep"
	"github.com/qnet-vm/qnet/netsetup/kernel"
	"github.com/qnet-vm/qnet/netsetup/step"
)

const (
	// joinTimeout bounds how long a keeper waits for the VM that it was started for.
	joinTimeout = 10 * time.Second
	// rejoinTimeout is how long VMs have to come back to a keeper that adopted their
	// network. Supervisors notice the death of a keeper at once.
	rejoinTimeout = 3 * time.Second
	// expectInterval is the time between two looks whether the processes that the
	// keeper waits for are alive.
	expectInterval = 100 * time.Millisecond
	// requestTimeout bounds the wait for what a client asks, from its connection on. It does
	// not end the connection of a VM that is registered.
	requestTimeout = 5 * time.Second
	// answerTimeout bounds the wait for a client that does not read its answer.
	answerTimeout = 5 * time.Second
	// mostVMs bounds the VMs of a network. A bridge has 1023 ports (BR_PORT_BITS in
	// net/bridge/br_private.h).
	mostVMs = 1024
)

// server is one network's keeper. doc.go has the order of its locks and the owners of
// its goroutines.
type server struct {
	place    rundir.Network
	stateDir string
	spec     keeper.Spec
	kernel   *kernel.Host // for the tasks
	host     machine      // the same, for what clients ask for
	life     *lockfile.Lock
	listener *net.UnixListener
	log      *slog.Logger
	waits    func(string) // tells the supervisor that started it what the start waits for
	clocks   func() upkeep.Clock
	watchdog *watchdog      // nil where the host stays on its NIC
	steward  *clerk.Steward // nil without DHCP and DNS

	planNotes []string // the plan's, which each VM gets when it joins

	upkeep      *upkeep.Tasks // nil before the network stands
	tasks       sync.WaitGroup
	cancelTasks context.CancelFunc
	clients     sync.WaitGroup

	stopping chan struct{} // closed by stop
	stopOnce sync.Once
	ended    chan struct{} // closed when the network is undone
	claims   chan claim    // of guests, for learn
	lost     chan error    // gets why no clerk can be started any more

	knownMu sync.Mutex
	known   map[string]*egress.Known // by the MAC of a port with a list; guarded by knownMu

	changes gate // serializes changes to the network; guards what follows
	journal *journal.Journal
	dhcp    *dhcp.Server // host-only and nat: the addresses and the lease file
	clerk   *clerk.Clerk // host-only and nat: it serves DHCP and DNS
	drift   []string     // what was no longer as qnet had left it when the network was undone
	joined  bool         // a VM has registered at least once
	over    bool         // the network is undone or will be: nothing changes it any more
	err     error        // of the undo

	naming atomic.Pointer[clerk.Clerk] // clerk, for watchers of taps, which do not hold changes

	mu    sync.Mutex // guards what follows; vms is written with changes held, too
	vms   map[string]*member
	notes []keeper.Note   // the last ones, for `qnet net`
	told  map[string]bool // the texts of NoteOnce
}

// machine is what the server needs of a kernel.Host.
type machine interface {
	Kernel() step.Kernel
	Link(ctx context.Context, name string) (host.Link, bool, error)
	GiveTap(ctx context.Context, name string, files []*os.File) error
	TakeTap(name string) *os.File
	Close() error
}

func newServer(place rundir.Network, stateDir string, spec keeper.Spec) *server {
	return &server{
		place: place, stateDir: stateDir, spec: spec, changes: make(gate, 1), cancelTasks: func() {},
		stopping: make(chan struct{}), ended: make(chan struct{}), lost: make(chan error, 1),
		claims: make(chan claim, maxClaims),
		vms:    map[string]*member{}, known: map[string]*egress.Known{}, told: map[string]bool{},
	}
}

// gate is a mutex whose wait ends with a context.
type gate chan struct{}

func (g gate) lock(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g gate) unlock() { <-g }

// serve returns when the network is undone and all clients are served, with the error of
// the undo, or when the network is left to the next keeper.
func (s *server) serve(ctx context.Context, terms <-chan os.Signal) error {
	tasks, cancel := context.WithCancel(ctx)
	s.cancelTasks = cancel
	for _, t := range s.upkeep.All {
		s.tasks.Go(func() {
			if err := t.Run(tasks); err != nil {
				s.log.Warn("upkeep", "task", t.String(), "error", err)
			}
		})
	}
	s.tasks.Go(func() { s.expect(tasks) })
	if s.journal.Plan.Prefix6.IsValid() {
		s.tasks.Go(func() { s.learn(tasks) })
	}
	s.clients.Go(func() { s.accept(ctx) })
	handedOver := make(chan struct{})
	s.tasks.Go(func() { s.heedTerm(tasks, terms, func() { close(handedOver) }) })
	select {
	case <-handedOver:
		return nil
	case err := <-s.lost:
		if s.leave(ctx, err) {
			return nil
		}
		s.end(ctx)
	case <-s.stopping:
		s.end(ctx)
	}
	s.clients.Wait()
	return s.err
}

func (s *server) accept(ctx context.Context) {
	for door := callers.At(s.listener, mostVMs); ; {
		c, err := door.Next()
		if err != nil {
			return // closed by end
		}
		s.clients.Go(func() {
			s.client(ctx, c)
			c.Close()
		})
	}
}

// WhileRunning runs f, which may change the network, unless that is being undone.
func (s *server) WhileRunning(ctx context.Context, f func() error) error {
	if err := s.changes.lock(ctx); err != nil {
		return err
	}
	defer s.changes.unlock()
	if s.over {
		return nil
	}
	lock, err := lockfile.Wait(ctx, s.place.PlanLock())
	if err != nil {
		return err
	}
	defer lock.Release()
	return f()
}

// expect ends what waits in vain: a keeper whose starter does not join, or died
// before it did, and VMs that had a keeper before this one and do not come back.
func (s *server) expect(ctx context.Context) {
	tick := time.NewTicker(expectInterval)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < joinTimeout; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.spec.Starter != 0 && !s.starterLives() {
			s.stopIfIdle(ctx)
		}
		s.endAway(ctx, time.Since(begin) > rejoinTimeout)
	}
	s.stopIfIdle(ctx)
}

// stop asks for the end, and does not wait for it.
func (s *server) stop() { s.stopOnce.Do(func() { close(s.stopping) }) }

// finish asks for the end and waits for it. No task may call it.
func (s *server) finish() error {
	s.stop()
	<-s.ended
	return s.err
}

// stopIfIdle asks for the end of a keeper that no VM has joined.
func (s *server) stopIfIdle(ctx context.Context) {
	if s.changes.lock(ctx) != nil {
		return
	}
	defer s.changes.unlock()
	if !s.joined {
		s.over = true
		s.stop()
	}
}

// end undoes the network, in the order of doc.go. Connections that arrive from now on
// are closed unanswered, and their supervisors start the next keeper. It runs once,
// and even if ctx has ended.
func (s *server) end(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	s.cancelTasks()     // one that waits in WhileRunning gives up
	s.changes.lock(ctx) //nolint:errcheck // ctx has no end
	s.over = true
	s.changes.unlock()
	if s.listener != nil {
		s.listener.Close() // removes the socket's file too
	}
	s.tasks.Wait()
	s.mu.Lock()
	members := slices.Collect(maps.Values(s.vms))
	s.mu.Unlock()
	for _, m := range members {
		m.end()
	}
	s.changes.lock(ctx) //nolint:errcheck // as above
	s.clerk.Farewell()
	s.clerk.End()
	err := s.undo(ctx)
	s.stopServices()
	s.err = errors.Join(err, s.steward.Close(), s.life.Release())
	s.changes.unlock()
	close(s.ended)
}

// undo takes everything back that the journal lists. Where a step could not be
// undone, the journal stays, for `qnet gc` to try again.
func (s *server) undo(ctx context.Context) error {
	lock, err := lockfile.Wait(ctx, s.place.PlanLock())
	if err != nil {
		return err
	}
	defer lock.Release()
	s.drift, err = keeper.Undo(ctx, s.host.Kernel(), s.journal, s.place)
	err = errors.Join(err, s.host.Close())
	if err != nil {
		return err
	}
	err = s.place.Remove()
	failpoint.Hit("keeper removed its files") //nolint:errcheck // nothing is left to undo
	return err
}
