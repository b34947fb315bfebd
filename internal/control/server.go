package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/qnet-vm/qnet/internal/callers"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

const (
	// requestTimeout bounds the wait for a client's request.
	requestTimeout = 5 * time.Second
	// replyTimeout bounds the wait for a client that does not read its replies.
	replyTimeout = time.Second
	// mostClients bounds the clients whose request is being served.
	mostClients = 128
)

// VM is what a Server asks of the VM that it serves. The methods are called from
// several goroutines.
type VM interface {
	// State describes the VM now.
	State() State
	// Stop asks for the VM's end, or climbs the shutdown ladder if it was asked before.
	// It does not wait. The timeout is the guest's to shut down; 0 is the default.
	Stop(force bool, timeout time.Duration)
	// Rungs calls f with each rung of the shutdown ladder, those that were reached
	// already first, and returns when QEMU has ended.
	Rungs(f func(rung string))
	// Console connects a client to the guest's console until either ends, and closes
	// out. Without a console it closes out at once.
	Console(in io.Reader, out io.WriteCloser)
	// Do carries out an operation, see Operation, and returns its result, which is sent as
	// JSON. It tells what it does meanwhile.
	Do(ctx context.Context, op string, args json.RawMessage, tell func(what string)) (result any, err error)
}

// Server serves a VM's control socket.
type Server struct {
	vm VM

	mu      sync.Mutex // guards what follows, and the order of replies
	clients map[*waiter]bool
	last    *end // nil until End
}

// Serve begins to answer the socket's clients, until the listener is closed. Clients
// that are connected then stay so. Root, the process's own user and the given ones are
// answered, nobody else.
func Serve(l net.Listener, vm VM, users ...uint32) *Server {
	s := &Server{vm: vm, clients: map[*waiter]bool{}}
	go s.accept(callers.At(l, mostClients, users...))
	return s
}

// End sends the last reply to the clients that wait for the VM's end: the error that
// the undo met, or nil. Their connections stay open: the end of the process closes them.
func (s *Server) End(undo error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = &end{Error: keeper.ToWire(undo)}
	for c := range s.clients {
		c.write(reply{Last: s.last})
	}
}

func (s *Server) accept(door *callers.Door) {
	for {
		c, err := door.Next()
		if err != nil {
			return
		}
		go s.serve(c)
	}
}

func (s *Server) serve(c *callers.Caller) {
	c.SetReadDeadline(time.Now().Add(requestTimeout))
	in := bufio.NewReaderSize(c, 512)
	req, err := readRequest(in)
	if err != nil {
		c.Close()
		return
	}
	w := &waiter{c}
	if !c.Enter() {
		w.refuse(fmt.Sprintf("it serves %d others: wait, or end them", mostClients))
		return
	}
	c.SetReadDeadline(time.Time{})
	switch req.Op {
	case opStatus:
		w.write(s.vm.State())
		c.Close()
	case opConsole:
		s.vm.Console(in, c)
	case opStop:
		if req.Timeout < 0 {
			w.refuse("a timeout below zero")
			return
		}
		s.stop(w, req)
	case opDo:
		s.do(w, req)
	default:
		w.refuse(unknownRequest + req.Op)
	}
}

// stop asks the VM to stop and tells the client how that goes.
func (s *Server) stop(c *waiter, req request) {
	if !s.begin(c) {
		return
	}
	s.vm.Stop(req.Force, req.Timeout)
	s.vm.Rungs(func(rung string) { s.tell(c, reply{Rung: rung}) })
	s.tell(c, reply{Ended: true})
}

// begin registers a client for the last reply. If that was given already, the client
// gets it at once.
func (s *Server) begin(c *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[c] = true
	c.write(reply{Version: Version})
	if s.last != nil {
		c.write(reply{Last: s.last})
	}
	go s.heed(c)
	return s.last == nil
}

// heed lets go of a client that hangs up while it waits: its place is another's. One that
// only says no more (shutdown(2)) goes on waiting.
func (s *Server) heed(c *waiter) {
	io.Copy(io.Discard, c.conn) //nolint:errcheck // it ends when either side does
	if !c.conn.HungUp() {
		return
	}
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	c.conn.Close()
}

// tell sends a reply. What was reached just before the end may come after the last reply.
func (s *Server) tell(c *waiter, r reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.write(r)
}

// waiter is a client that asked to stop the VM and waits for its end.
type waiter struct{ conn *callers.Caller }

// refuse says why a request is not served, and hangs up.
func (c *waiter) refuse(why string) {
	c.write(reply{Error: why})
	c.conn.Close()
}

// write sends a line of JSON.
func (c *waiter) write(r any) {
	c.conn.SetWriteDeadline(time.Now().Add(replyTimeout))
	json.NewEncoder(c.conn).Encode(r) //nolint:errcheck // a client that is gone needs no answer
}
