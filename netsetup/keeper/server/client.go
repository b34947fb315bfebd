package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/qnet-vm/qnet/internal/callers"
	"github.com/qnet-vm/qnet/internal/failpoint"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/apply"
	"github.com/qnet-vm/qnet/netsetup/host"
	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// connection is one supervisor's, or that of a process that asks for the Info.
type connection struct {
	*server
	conn *callers.Caller
	vm   string // registered by this connection, "" for none
	left error  // what the undo of an ending VM met
}

// client serves one connection until it ends. Its end is the end of the VM's
// registration.
func (s *server) client(ctx context.Context, conn *callers.Caller) {
	c := &connection{server: s, conn: conn}
	conn.SetReadDeadline(time.Now().Add(requestTimeout))
	for {
		var req keeper.Request
		files, err := keeper.Receive(conn.UnixConn, &req)
		over := false
		if err == nil {
			over, err = c.answer(context.WithoutCancel(ctx), req, files)
		}
		keeper.CloseAll(files)
		switch {
		case over:
			return
		case err != nil:
			s.died(context.WithoutCancel(ctx), c.vm)
			return
		}
	}
}

// answer serves a request with the files that came with it. It reports whether the connection
// is over. Nothing of a request is used before it is valid.
func (c *connection) answer(ctx context.Context, req keeper.Request, files []*os.File) (over bool, err error) {
	if err := errors.Join(req.Validate(), req.Distribute(files)); err != nil {
		return false, c.refuse(req, err)
	}
	switch req.Op {
	case keeper.OpInfo:
		return false, c.describe(ctx, req)
	case keeper.OpEnding:
		c.leave(ctx)
		return false, nil
	case keeper.OpLeave:
		// The answer comes after the undo, and the end of the connection after the answer.
		failpoint.Hit("keeper was asked to leave") //nolint:errcheck // a failure to leave is the undo's
		c.leave(ctx)
		c.send(req, keeper.Reply{Error: keeper.ToWire(c.left), Left: true, Told: c.drifted(ctx)}) //nolint:errcheck // a supervisor that is gone needs no answer
		c.awaitEnd()
		return true, nil
	case keeper.OpForward:
		return false, c.forward(ctx, req)
	case keeper.OpUnforward:
		return false, c.unforward(ctx, req)
	case keeper.OpJoin, keeper.OpRejoin:
		if c.vm != "" {
			return false, c.refuse(req, host.Refuse("join: this connection is VM %q", c.vm))
		}
		if !c.conn.Enter() {
			return false, c.refuse(req, host.Refuse("network %q has %d VMs, and takes no more", c.place.Name, mostVMs))
		}
		if c.vm, err = c.register(ctx, req); c.vm != "" {
			c.conn.SetReadDeadline(time.Time{})
		}
		return false, err
	default:
		return false, c.refuse(req, host.Refuse("serve: unknown request %q", req.Op))
	}
}

// leave undoes the VM's ports, and keeps the error for the answer to OpLeave. The end
// of the network tries again what an undo of ports could not do.
func (c *connection) leave(ctx context.Context) {
	last, err := c.remove(ctx, c.vm)
	if last {
		c.left = c.finish()
	} else if err != nil {
		c.left = err
	}
}

// describe answers OpInfo, unless the connection ends meanwhile: a flood of such requests
// leaves no goroutines behind.
func (c *connection) describe(ctx context.Context, req keeper.Request) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.conn.Closed():
			cancel()
		case <-ctx.Done():
		}
	}()
	info, err := c.info(ctx)
	if err != nil {
		return err
	}
	return c.send(req, keeper.Reply{Info: &info})
}

func (c *connection) refuse(req keeper.Request, err error) error {
	return c.send(req, keeper.Reply{Error: keeper.ToWire(err)})
}

func (c *connection) send(req keeper.Request, rep keeper.Reply, files ...*os.File) error {
	c.conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	return keeper.SendReply(c.conn.UnixConn, rep.For(req.Versions), files...)
}

// endTimeout bounds how long a supervisor takes for its own files after it left.
const endTimeout = 5 * time.Second

// awaitEnd waits for the end of a supervisor that left, and removes the files that it
// was killed before removing.
func (c *connection) awaitEnd() {
	c.conn.SetReadDeadline(time.Now().Add(endTimeout))
	var none keeper.Request
	files, err := keeper.Receive(c.conn.UnixConn, &none)
	keeper.CloseAll(files)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.removeFiles(c.vm)
	}
}

// drifted tells what was no longer as qnet had left it, once the network is undone.
func (s *server) drifted(ctx context.Context) []keeper.Note {
	s.changes.lock(ctx) //nolint:errcheck // ctx has no end
	defer s.changes.unlock()
	var notes []keeper.Note
	for _, text := range s.drift {
		notes = append(notes, s.about(text))
	}
	return notes
}

// remove undoes a VM's ports and its registration. If the VM is the last one, or the
// network is being undone, it reports that, and the end undoes the ports.
func (s *server) remove(ctx context.Context, vm string) (last bool, err error) {
	if err := s.changes.lock(ctx); err != nil {
		return false, err
	}
	defer s.changes.unlock()
	m := s.vms[vm]
	switch {
	case s.over:
		return true, nil
	case m == nil:
		return false, nil
	case len(s.vms) > 1:
		return false, s.drop(ctx, vm)
	}
	s.over = true // no VM joins any more
	m.end()
	s.forget(vm)
	return true, nil
}

// drop undoes a VM's ports. server.changes is held.
func (s *server) drop(ctx context.Context, vm string) error {
	m := s.vms[vm]
	s.forget(vm)
	m.end()
	s.release(m)
	s.upkeep.GuestsChanged()
	if err := apply.Undo(ctx, s.host.Kernel(), m.steps); err != nil {
		return fmt.Errorf("%w: %w", host.ErrLeft, err) // the journal still has them, for the network's end
	}
	delete(s.journal.Ports, vm)
	s.journal.Plan.Forwards = s.forwards()
	err := s.journal.Write(s.place.Journal())
	return errors.Join(err, s.forwardsChanged(ctx))
}

func (s *server) forget(vm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.vms, vm)
}

// died ends the registration of a VM whose supervisor is gone, and removes the
// supervisor's files.
func (s *server) died(ctx context.Context, vm string) {
	if vm == "" {
		s.stopIfIdle(ctx) // the supervisor that started this keeper may have given up
		return
	}
	last, err := s.remove(ctx, vm)
	if last {
		err = s.finish()
	}
	if err != nil {
		s.log.Warn("undo ports", "vm", vm, "error", err)
	}
	s.removeFiles(vm)
}

const (
	// fileTries is how often the keeper tries to remove a dead supervisor's files, and
	// fileInterval the time between two tries: the kernel closes a dead process's files
	// one by one, so the lock may be released later than the connection.
	fileTries    = 20
	fileInterval = 50 * time.Millisecond
)

// removeFiles removes the files that a dead supervisor left.
func (s *server) removeFiles(vm string) {
	for range fileTries {
		place := rundir.VM{RunDir: s.place.RunDir, Name: vm}
		if !place.Left() {
			return
		}
		err := place.Collect()
		if err == nil {
			return
		}
		if !errors.Is(err, lockfile.ErrHeld) {
			s.log.Warn("remove files", "vm", vm, "error", err)
			return
		}
		time.Sleep(fileInterval) //nolint:forbidigo // the release of a lock causes no event
	}
}
