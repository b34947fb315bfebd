package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/rundir"
)

// ForeignError tells that a VM is another user's, and that the caller may not use its
// socket.
type ForeignError struct {
	VM, RunDir string
	UID        uint32 // of the user
}

// Error names the user.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("VM %q belongs to %s", e.VM, asuser.Name(e.UID))
}

// Hint says how to reach the VM.
func (e *ForeignError) Hint() string {
	if os.Geteuid() == 0 {
		return fmt.Sprintf("qnet --run-dir %s reaches it", e.RunDir)
	}
	return "sudo qnet reaches it"
}

// owner returns the user whose VM it is; ok is false if the caller may not even see that.
func owner(vm rundir.VM) (uid uint32, ok bool) {
	for _, path := range []string{vm.Socket(), vm.Dir(), vm.RunDir} {
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			return st.Uid, true
		}
	}
	return 0, false
}

// findTimeout bounds the wait for a VM's state.
const findTimeout = 5 * time.Second

// Find asks a VM for its state. The error wraps ErrNotRunning if the VM has no
// supervisor, and a *ForeignError if it is another user's.
func Find(ctx context.Context, runDir, name string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	c, err := call(ctx, runDir, name, request{Op: opStatus})
	if err != nil {
		return State{}, err
	}
	defer c.close()
	var answer struct {
		State
		Error string `json:"error"` // why it is refused
	}
	err = answers(c).decode(&answer)
	switch {
	case err == nil && answer.Error != "":
		err = errors.New(answer.Error)
	case err == nil:
		err = answer.check(name)
	}
	if err != nil {
		return State{}, fmt.Errorf("ask VM %q: %w", name, c.cause(err))
	}
	return answer.State, nil
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
	if errors.Is(err, fs.ErrPermission) {
		if uid, ok := owner(rundir.VM{RunDir: runDir, Name: name}); ok {
			return nil, &ForeignError{VM: name, RunDir: runDir, UID: uid}
		}
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
