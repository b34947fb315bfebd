package supervisor

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu"
)

// stopRequest is one request to stop the VM. The first starts the shutdown ladder,
// each later one climbs it.
type stopRequest struct {
	force   bool
	timeout time.Duration // for the guest; 0 is the default
}

// stopper collects the requests, and tells those who follow which rungs were reached.
type stopper struct {
	cancel   context.CancelFunc // ends a start that is still going on
	requests chan stopRequest
	climb    chan struct{}

	tell func(rung string) // Options.Rung

	mu    sync.Mutex // guards what follows
	any   bool       // there was a request
	last  time.Time  // of the last request
	rungs []string
	told  *sync.Cond // signals a change of rungs and over
	over  bool       // QEMU has ended, or will not start
}

func (s *stopper) init(cancel context.CancelFunc) {
	s.cancel = cancel
	s.requests, s.climb = make(chan stopRequest, 1), make(chan struct{}, 16)
	s.told = sync.NewCond(&s.mu)
}

// ask passes a request on; it does not wait.
func (s *stopper) ask(r stopRequest) {
	s.mu.Lock()
	first := !s.any
	s.any, s.last = true, time.Now()
	s.mu.Unlock()
	if first {
		s.requests <- r
		s.cancel()
		return
	}
	select {
	case s.climb <- struct{}{}:
	default: // more requests than rungs
	}
}

// climbsAfter is how long after the last request a signal is a further one, which climbs
// the ladder. A signal that comes earlier is a copy: systemd sends SIGHUP right behind the
// SIGTERM to a login session, sudo(8) passes on to its command what that has got already,
// and a shell what the terminal's hangup has sent. SIGHUP never climbs: no person sends it
// to hurry.
var climbsAfter = map[os.Signal]time.Duration{
	unix.SIGINT: 300 * time.Millisecond, unix.SIGQUIT: 300 * time.Millisecond, // keys
	unix.SIGTERM: 5 * time.Second,
}

// askBySignal is ask for a signal, unless that is a copy of the request before it.
func (s *stopper) askBySignal(sig os.Signal) {
	s.mu.Lock()
	after, climbs := climbsAfter[sig]
	again := s.any && (!climbs || time.Since(s.last) < after)
	s.mu.Unlock()
	if !again {
		s.ask(stopRequest{})
	}
}

func (s *stopper) asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.any
}

// run waits for the first request or the VM's end, and carries the request out.
func (s *stopper) run(ctx context.Context, vm *qemu.VM, stopping func()) {
	defer s.end()
	select {
	case <-vm.Done():
	case r := <-s.requests:
		stopping()
		// The error says that even SIGKILL did not help: wait still waits for the process.
		vm.Stop(ctx, qemu.StopOptions{ //nolint:errcheck // see above
			Force: r.force, Powerdown: r.timeout, Climb: s.climb, Report: s.report,
		})
	}
}

// report tells that a rung was reached.
func (s *stopper) report(rung string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rungs = append(s.rungs, rung)
	s.told.Broadcast()
	s.tell(rung)
}

// end tells that there are no rungs any more: QEMU has ended.
func (s *stopper) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	s.told.Broadcast()
	s.tell("")
}

// follow calls f with each rung, from the first on, until QEMU has ended.
func (s *stopper) follow(f func(rung string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; ; {
		for ; i < len(s.rungs); i++ {
			rung := s.rungs[i]
			s.mu.Unlock()
			f(rung)
			s.mu.Lock()
		}
		if s.over {
			return
		}
		s.told.Wait()
	}
}
