package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/qemu"
)

// stopRequest is one wish to stop the VM: the first starts the ladder, each
// later one climbs it.
type stopRequest struct {
	force   bool
	timeout time.Duration // for the guest; 0 is the default
}

// stopper gathers the wishes and reports the rungs.
type stopper struct {
	cancel   context.CancelFunc // ends a start that is still going on
	requests chan stopRequest
	climb    chan struct{}

	tell func(rung string) // Options.Rung

	mu    sync.Mutex // guards what follows
	any   bool
	rungs []string
	told  *sync.Cond
	over  bool
}

func (s *stopper) init(cancel context.CancelFunc) {
	s.cancel = cancel
	s.requests, s.climb = make(chan stopRequest, 1), make(chan struct{}, 16)
	s.told = sync.NewCond(&s.mu)
}

// ask hands a wish in; it does not wait.
func (s *stopper) ask(r stopRequest) {
	s.mu.Lock()
	first := !s.any
	s.any = true
	s.mu.Unlock()
	if first {
		s.requests <- r
		s.cancel()
		return
	}
	select {
	case s.climb <- struct{}{}:
	default: // more wishes than rungs
	}
}

func (s *stopper) asked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.any
}

// run waits for the first wish or the VM's end.
func (s *stopper) run(vm *qemu.VM, stopping func()) {
	defer s.report("")
	select {
	case <-vm.Done():
	case r := <-s.requests:
		stopping()
		// The error says that even SIGKILL did not help: Wait then waits on.
		vm.Stop(context.Background(), qemu.StopOptions{ //nolint:errcheck // see above
			Force: r.force, Powerdown: r.timeout, Climb: s.climb, Report: s.report,
		})
	}
}

// report tells a rung; "" is the end.
func (s *stopper) report(rung string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rung == "" {
		s.over = true
	} else {
		s.rungs = append(s.rungs, rung)
	}
	s.told.Broadcast()
	s.tell(rung)
}

// follow calls f with each rung until the VM has ended.
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

// serve answers the control socket until it is closed.
func (s *session) serve(l *net.UnixListener) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go s.answer(c)
	}
}

func (s *session) answer(c *net.UnixConn) {
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	in := bufio.NewReaderSize(c, 4096)
	req, err := readRequest(in)
	if err != nil {
		c.Close()
		return
	}
	c.SetReadDeadline(time.Time{})
	switch req.Op {
	case "status":
		s.mu.Lock()
		state := s.state
		state.NICs = slices.Clone(s.state.NICs)
		s.mu.Unlock()
		json.NewEncoder(c).Encode(state) //nolint:errcheck // a client that is gone needs no answer
		c.Close()
	case "console":
		s.attach(in, c)
	case "stop":
		s.stops.ask(stopRequest{force: req.Force, timeout: req.Timeout})
		out := json.NewEncoder(c)
		s.stops.follow(func(rung string) { out.Encode(answer{Rung: rung}) }) //nolint:errcheck // as above
		out.Encode(answer{Ended: true})                                      //nolint:errcheck // as above
		// The connection stays open until the process ends: that tells the
		// client that everything is undone.
		s.mu.Lock()
		s.held = append(s.held, c)
		s.mu.Unlock()
	default:
		json.NewEncoder(c).Encode(answer{Error: "unknown request " + req.Op}) //nolint:errcheck // as above
		c.Close()
	}
}

func (s *session) attach(in io.Reader, c *net.UnixConn) {
	s.mu.Lock()
	console := s.console
	s.mu.Unlock()
	if console == nil {
		c.Close()
		return
	}
	console.attach(in, c)
}
