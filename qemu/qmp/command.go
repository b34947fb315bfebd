package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Run executes a command, a JSON object such as {"execute":"query-status"},
// within [DefaultTimeout] and returns QEMU's whole reply, {"return":...}. An
// "id" in the command is replaced. A refusal is returned as an *[Error]. The
// Monitor interface of go-qemu has no context here; [Monitor.Execute] takes one.
func (m *Monitor) Run(command []byte) ([]byte, error) {
	return m.runLine(context.Background(), command)
}

// runLine is Run with a context that bounds both writing the command and
// waiting for the reply. A command given up this way may still be executed by
// QEMU; its reply is discarded.
func (m *Monitor) runLine(ctx context.Context, command []byte) ([]byte, error) {
	o, err := decodeObject(command)
	if err != nil {
		return nil, fmt.Errorf("decode QMP command: %w", err)
	}
	r, err := m.run(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	return r.line, nil
}

// Execute runs the named command with args (nil for none) and decodes what it
// returns into result, unless that is nil.
func (m *Monitor) Execute(ctx context.Context, name string, args, result any) error {
	return m.ExecuteWith(ctx, nil, name, args, result)
}

// ExecuteWith is Execute with a file that QEMU gets along with the command (SCM_RIGHTS), for
// "getfd" and "add-fd". The caller's file stays open and the caller's. A nil file sends none.
func (m *Monitor) ExecuteWith(ctx context.Context, file *os.File, name string, args, result any) error {
	quoted, err := json.Marshal(name)
	if err != nil {
		return fmt.Errorf("encode QMP command %q: %w", name, err)
	}
	o := object{"execute": quoted}
	if args != nil {
		if o["arguments"], err = json.Marshal(args); err != nil {
			return fmt.Errorf("encode QMP command %q: %w", name, err)
		}
	}
	r, err := m.run(ctx, o, file)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(r.object["return"], result); err != nil {
		return fmt.Errorf("decode reply to QMP command %q: %w", name, err)
	}
	return nil
}

func (m *Monitor) run(ctx context.Context, o object, file *os.File) (reply, error) {
	name := o.text("execute")
	if !m.ready.Load() {
		return reply{}, fmt.Errorf("run QMP command %q: %w", name, ErrNotConnected)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := m.command(ctx, o, file)
	if err != nil {
		return reply{}, fmt.Errorf("run QMP command %q: %w", name, err)
	}
	return r, nil
}

// command writes o under an id of ours and waits for the reply to it.
func (m *Monitor) command(ctx context.Context, o object, file *os.File) (reply, error) {
	id := m.nextID()
	o["id"] = json.RawMessage(`"` + id + `"`)
	line, err := json.Marshal(o)
	if err != nil {
		return reply{}, err
	}
	c := make(chan reply, 1)
	m.mu.Lock()
	m.waiting[id] = c
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
	}()
	if err := m.write(ctx, append(line, '\n'), file); err != nil {
		return reply{}, err
	}
	return m.await(ctx, c)
}

func (m *Monitor) await(ctx context.Context, c <-chan reply) (reply, error) {
	select {
	case r := <-c:
		return r, r.err()
	case <-ctx.Done():
		return reply{}, context.Cause(ctx)
	case <-m.ended:
	}
	select { // the reply may have been the last line
	case r := <-c:
		return r, r.err()
	default:
		return reply{}, m.Err()
	}
}

// write sends one line. A line sent in part would garble the next one, so that
// ends the connection.
func (m *Monitor) write(ctx context.Context, line []byte, file *os.File) error {
	select {
	case m.writing <- struct{}{}:
	case <-m.ended:
		return m.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-m.writing }()

	if err := m.conn.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	interrupted := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = m.conn.SetWriteDeadline(time.Unix(1, 0)) // fails only when closed, which ends the write too
	})
	n, err := m.send(line, file)
	if !unhook() {
		<-interrupted // or its deadline would hit the next write
	}
	if err == nil {
		return nil
	}
	if ctx.Err() == nil {
		// The reader sees the end too, after the last lines: closing here
		// would lose the event that says why QEMU went.
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if n > 0 {
		_ = m.fail(fmt.Errorf("command sent in part: %w", err))
	}
	return context.Cause(ctx)
}

var errNoFiles = errors.New("the connection carries no files")

// send writes a line. A file travels with its first byte: QEMU has it when it reads the
// command (unix(7)).
func (m *Monitor) send(line []byte, file *os.File) (int, error) {
	if file == nil {
		return m.conn.Write(line)
	}
	conn, ok := m.conn.(*net.UnixConn)
	if !ok {
		return 0, errNoFiles
	}
	n, _, err := conn.WriteMsgUnix(line[:1], unix.UnixRights(int(file.Fd())), nil)
	runtime.KeepAlive(file)
	if err != nil {
		return n, err
	}
	rest, err := conn.Write(line[1:])
	return n + rest, err
}
