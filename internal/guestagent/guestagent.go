// Package guestagent has QEMU's guest agent, qemu-ga(8), run commands in a guest, over a port
// of virtio-serial that needs no network. Distributions have it as qemu-guest-agent. The
// protocol is that of QEMU's docs/interop/qemu-ga-ref: JSON, a line each way.
//
// The guest is not believed: its lines are bounded, what is no answer to the question is
// passed over, and each wait ends.
package guestagent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Port is the name of the port in the guest, by which the agent and udev's rules find it.
const Port = "org.qemu.guest_agent.0"

const (
	maxAnswer  = 8 << 20                // bytes of a line of the guest, which has a command's whole output in base64
	askTime    = 5 * time.Second        // for an answer to a question; a guest under load needs a second
	statusWait = 100 * time.Millisecond // between two questions whether a command has ended
	delimiter  = 0xff                   // before a line, it has the agent forget what it has read; before an answer, it says that this is the next
)

// Errors of Exec besides those that name what the agent says.
var (
	ErrSilent = errors.New("no guest agent answers: the guest has none (package qemu-guest-agent), or is not up yet")
	errLong   = fmt.Errorf("the agent's answer is longer than %d MiB; have the command write to a file", maxAnswer>>20)
)

// AgentError is what the agent says that it cannot do.
type AgentError struct{ Desc string }

// Error has the agent's words, cut.
func (e *AgentError) Error() string { return fmt.Sprintf("the guest agent says %.300q", e.Desc) }

// Result is how a command ended.
type Result struct {
	Code   int    `json:"code"`   // exit code, or 128 and the signal that ended it, as sh(1) has it
	Out    []byte `json:"out"`    // of stdout
	Err    []byte `json:"err"`    // of stderr
	Cut    string `json:"cut"`    // what the agent cut: "", "out", "err", "out err"
	Exited bool   `json:"exited"` // false if it still runs when its time is over
}

// Conn is the host's end of the port. Its methods may be called concurrently.
type Conn struct {
	conn net.Conn

	mu   sync.Mutex // held while the agent is asked
	in   *bufio.Reader
	sync int64 // ID of the last synchronization
}

// New returns the agent behind a connection, which it owns.
func New(conn net.Conn) *Conn { return &Conn{conn: conn, in: bufio.NewReader(conn)} }

// Close ends the connection. It does nothing to a nil Conn.
func (c *Conn) Close() error {
	if c == nil {
		return nil
	}
	return c.conn.Close()
}

// Exec has the agent run a command, as root and without input, and waits for its end, until
// ctx ends. The first word is looked up in the agent's PATH. The error is ErrSilent, an
// *AgentError, or says what is wrong with the answers.
func (c *Conn) Exec(ctx context.Context, words []string) (Result, error) {
	var started struct{ PID int64 }
	args := map[string]any{"path": words[0], "arg": words[1:], "capture-output": true}
	if err := c.ask(ctx, "guest-exec", args, &started); err != nil {
		return Result{}, err
	}
	for {
		var s status
		err := c.ask(ctx, "guest-exec-status", map[string]any{"pid": started.PID}, &s)
		if err != nil && ctx.Err() == nil {
			return Result{}, err
		}
		if s.Exited {
			return s.result(), nil
		}
		select {
		case <-ctx.Done():
			return Result{}, nil
		case <-time.After(statusWait):
		}
	}
}

// status is the answer to guest-exec-status.
type status struct {
	Exited   bool   `json:"exited"`
	ExitCode int    `json:"exitcode"`
	Signal   int    `json:"signal"`
	Out      []byte `json:"out-data"`
	Err      []byte `json:"err-data"`
	OutCut   bool   `json:"out-truncated"`
	ErrCut   bool   `json:"err-truncated"`
}

func (s status) result() Result {
	r := Result{Code: s.ExitCode & 0xff, Out: s.Out, Err: s.Err, Exited: true}
	if s.Signal != 0 {
		r.Code = (128 + s.Signal) & 0xff
	}
	var cut []string
	if s.OutCut {
		cut = append(cut, "out")
	}
	if s.ErrCut {
		cut = append(cut, "err")
	}
	r.Cut = strings.Join(cut, " ")
	return r
}

// ask sends a command and decodes what it returns. Before it, it synchronizes: an answer to
// an earlier question, which was given up, may still come.
func (c *Conn) ask(ctx context.Context, command string, args, result any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetDeadline(time.Now().Add(askTime))                                    //nolint:errcheck // the write fails then
	defer context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })() //nolint:errcheck // likewise
	if err := c.synchronize(); err != nil {
		return c.cause(ctx, err)
	}
	if err := c.send(command, args); err != nil {
		return c.cause(ctx, err)
	}
	line, err := c.line()
	if err != nil {
		return c.cause(ctx, err)
	}
	return decode(line, result)
}

// synchronize sends an ID and reads until the agent returns it behind a delimiter.
func (c *Conn) synchronize() error {
	c.sync++
	if _, err := c.conn.Write([]byte{delimiter}); err != nil {
		return err
	}
	if err := c.send("guest-sync-delimited", map[string]any{"id": c.sync}); err != nil {
		return err
	}
	for {
		line, err := c.line()
		if err != nil && !errors.Is(err, errLong) {
			return err
		}
		_, behind, delimited := bytes.Cut(line, []byte{delimiter})
		var id int64
		if delimited && decode(behind[bytes.LastIndexByte(behind, delimiter)+1:], &id) == nil && id == c.sync {
			return nil
		}
	}
}

func (c *Conn) send(command string, args any) error {
	b, err := json.Marshal(map[string]any{"execute": command, "arguments": args})
	if err != nil {
		return err
	}
	_, err = c.conn.Write(append(b, '\n'))
	return err
}

// line reads a line. One that is too long is read to its end.
func (c *Conn) line() ([]byte, error) {
	var line []byte
	for long := false; ; {
		part, err := c.in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxAnswer; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return nil, err
		case long:
			return nil, errLong
		default:
			return line, nil
		}
	}
}

// decode reads an answer.
func decode(line []byte, result any) error {
	var answer struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Desc string `json:"desc"`
		} `json:"error"`
	}
	err := json.Unmarshal(line, &answer)
	switch {
	case err == nil && answer.Error != nil:
		return &AgentError{answer.Error.Desc}
	case err == nil && answer.Return == nil:
		err = errors.New("it returns nothing")
	case err == nil:
		err = json.Unmarshal(answer.Return, result)
	}
	if err != nil {
		return fmt.Errorf("read the guest agent's answer: %w", err)
	}
	return nil
}

// cause words why there is no answer.
func (c *Conn) cause(ctx context.Context, err error) error {
	var late net.Error
	if ctx.Err() != nil || errors.As(err, &late) && late.Timeout() {
		return ErrSilent
	}
	return fmt.Errorf("ask the guest agent: %w", err)
}
