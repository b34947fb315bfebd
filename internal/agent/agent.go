// Package agent has a guest do things for its host, over a port of virtio-serial that qnet
// gives to guests that it seeds. The other end is a script of a few lines in the guest
// (firstboot), which root runs there: the host is the guest's master anyway.
//
// The host sends lines "ID SCRIPT", the script in base64. The guest runs it with sh(1), and
// answers "ID STATUS", and behind that, in base64, how what the script wrote to its standard
// output begins, if it wrote anything. The guest is not believed: lines are bounded, and what is no answer to
// the question is passed over. A guest without the script never answers.
package agent

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Port is the name of the port in the guest: /dev/virtio-ports/qnet.agent.
const Port = "qnet.agent"

// maxAnswer is the longest line of a guest, in bytes.
const maxAnswer = 1024

// Conn is the host's end. Its methods may be called concurrently.
type Conn struct {
	conn net.Conn

	mu   sync.Mutex // held while the guest is asked
	in   *bufio.Reader
	last int // ID
}

// New returns the agent behind a connection, which it owns.
func New(conn net.Conn) *Conn { return &Conn{conn: conn, in: bufio.NewReaderSize(conn, maxAnswer)} }

// Close ends the connection. It does nothing to a nil Conn.
func (c *Conn) Close() error {
	if c == nil {
		return nil
	}
	return c.conn.Close()
}

// StatusError tells that a script failed in the guest.
type StatusError struct {
	Status string
	Said   string // how the script's output begins, printable
}

// Error has the script's exit status and output.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("the guest answers with status %.20q", e.Status)
	if e.Said != "" {
		text += ": " + e.Said
	}
	return text
}

// Run has the guest run a script of sh(1), as root, and waits for its end. The error is a
// *StatusError, or says that the guest does not answer within ctx.
func (c *Conn) Run(ctx context.Context, script string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	id := fmt.Sprint(c.last)
	c.conn.SetDeadline(time.Time{})                                                //nolint:errcheck // the write fails then
	defer context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })() //nolint:errcheck // likewise
	if _, err := fmt.Fprintf(c.conn, "%s %s\n", id, base64.StdEncoding.EncodeToString([]byte(script))); err != nil {
		return c.cause(ctx, err)
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return c.cause(ctx, err)
		}
		answered, rest, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		status, said, _ := strings.Cut(rest, " ")
		switch {
		case answered != id:
		case status == "0":
			return nil
		default:
			return &StatusError{status, printable(said)}
		}
	}
}

// printable decodes what a guest says, as words in a line.
func printable(code string) string {
	text, err := base64.StdEncoding.DecodeString(code)
	if err != nil {
		return ""
	}
	words := strings.Fields(string(text))
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.Join(words, " "))
}

func (c *Conn) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("ask the guest's agent: %w", err)
}
