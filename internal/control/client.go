package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/rundir"
)

// findTimeout bounds the wait for a VM's state.
const findTimeout = 5 * time.Second

// List returns the VMs of a run directory that answer: their supervisors live, and the
// caller may use their sockets.
func List(ctx context.Context, runDir string) ([]State, error) {
	vms, err := rundir.VMs(runDir)
	if err != nil {
		return nil, fmt.Errorf("list VMs: %w", err)
	}
	states := []State{}
	for _, vm := range vms {
		s, err := Find(ctx, runDir, vm.Name)
		if err == nil {
			states = append(states, s)
		}
	}
	return states, ctx.Err()
}

// Find asks a VM for its state. The error wraps ErrNotRunning if the VM has no
// supervisor.
func Find(ctx context.Context, runDir, name string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	c, err := call(ctx, runDir, name, request{Op: opStatus})
	if err != nil {
		return State{}, err
	}
	defer c.close()
	var s State
	err = answers(c).decode(&s)
	if err == nil {
		err = s.check(name)
	}
	if err != nil {
		return State{}, fmt.Errorf("ask VM %q: %w", name, c.cause(err))
	}
	return s, nil
}

// StopOptions say how to stop a VM.
type StopOptions struct {
	Force   bool          // do not ask the guest
	Timeout time.Duration // for the guest to shut down; 0 is 30 s
	Report  func(string)  // gets each rung of the shutdown ladder; may be nil
	Ended   func()        // called when QEMU has ended and the undo goes on; may be nil
}

// Stop stops a VM and returns when its supervisor has ended. It returns an *UndoError
// if something could not be undone. The error wraps ErrDied if the supervisor died
// without a last reply, and ErrNotRunning if the VM has no supervisor.
func Stop(ctx context.Context, runDir, name string, o StopOptions) error {
	c, err := call(ctx, runDir, name, request{Op: opStop, Force: o.Force, Timeout: o.Timeout})
	if err != nil {
		return err
	}
	defer c.close()
	var last *end
	version := 0
	for replies := answers(c); ; {
		var r reply
		if err := replies.decode(&r); err != nil {
			return c.ended(name, version, last)
		}
		version = max(version, r.Version)
		switch {
		case r.Error != "":
			return fmt.Errorf("stop VM %q: %s", name, r.Error)
		case r.Last != nil:
			last = r.Last
		case r.Ended && o.Ended != nil:
			o.Ended()
		case r.Rung != "" && o.Report != nil:
			o.Report(r.Rung)
		}
	}
}

// ended tells what the end of a "stop" connection means, by the version that the
// supervisor speaks and its last reply. Version 0 is also that of a supervisor which
// closed its socket, because the VM was just ending, before it read the request.
func (c *connection) ended(name string, version int, last *end) error {
	switch {
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case last != nil && last.Error != nil:
		return &UndoError{VM: name, Err: last.Error}
	case last == nil && version > 0:
		return fmt.Errorf("stop VM %q: %w", name, ErrDied)
	}
	return nil
}

// Console connects in and out to a VM's serial console until either ends.
func Console(ctx context.Context, runDir, name string, in io.Reader, out io.Writer) error {
	c, err := call(ctx, runDir, name, request{Op: opConsole})
	if err != nil {
		return err
	}
	defer c.close()
	go func() {
		io.Copy(c, in) //nolint:errcheck // the end of either side ends the console
		c.Close()
	}()
	_, err = io.Copy(out, c)
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// connection is a client's. It is closed when its context ends.
type connection struct {
	*net.UnixConn
	ctx  context.Context
	stop func() bool
}

func (c *connection) close() {
	c.stop()
	c.Close()
}

// cause returns why the context ended, if it has, in place of what that led to.
func (c *connection) cause(err error) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	return err
}

// call connects to a VM's supervisor and sends the request.
func call(ctx context.Context, runDir, name string, r request) (*connection, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", rundir.VM{RunDir: runDir, Name: name}.Socket())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, fmt.Errorf("VM %q: %w", name, ErrNotRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("ask VM %q: %w", name, err)
	}
	c := &connection{UnixConn: conn.(*net.UnixConn), ctx: ctx}
	c.stop = context.AfterFunc(ctx, func() { conn.Close() })
	b, err := json.Marshal(r)
	if err == nil {
		_, err = c.Write(append(b, '\n'))
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("ask VM %q: %w", name, c.cause(err))
	}
	return c, nil
}
