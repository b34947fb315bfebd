package guestagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// What a VM's supervisor calls Do and DoFile.
const (
	Operation     = "guest exec"
	FileOperation = "guest file"
)

// Operations are what a supervisor has the agent do, by their names. They take a nil Conn.
var Operations = map[string]func(context.Context, *Conn, json.RawMessage) (any, error){
	Operation:     func(ctx context.Context, c *Conn, args json.RawMessage) (any, error) { return c.Do(ctx, args) },
	FileOperation: func(ctx context.Context, c *Conn, args json.RawMessage) (any, error) { return c.DoFile(ctx, args) },
}

// Args are the arguments of Operation. Its answer is a Result.
type Args struct {
	Words  []string      `json:"words"`
	Within time.Duration `json:"within"` // nanoseconds that the command may take
}

// noPort is the error for a VM without the port.
type noPort struct{}

func (noPort) Error() string { return "the VM has no port for a guest agent" }

// Hint says how it gets one.
func (noPort) Hint() string {
	return "set guest_agent = true in [devices] and run the VM again; the guest needs the package qemu-guest-agent"
}

var errNoWords = errors.New("no command")

// Do has the agent run the command of Args in JSON. It takes a nil Conn for a VM without the
// port.
func (c *Conn) Do(ctx context.Context, args json.RawMessage) (Result, error) {
	var a Args
	switch err := json.Unmarshal(args, &a); {
	case err != nil:
		return Result{}, fmt.Errorf("read arguments: %w", err)
	case len(a.Words) == 0:
		return Result{}, errNoWords
	case c == nil:
		return Result{}, noPort{}
	}
	ctx, cancel := context.WithTimeout(ctx, a.Within)
	defer cancel()
	r, err := c.Exec(ctx, a.Words)
	if err == nil && !r.Exited {
		err = fmt.Errorf("the command still runs after %s; --timeout gives it more time", a.Within)
	}
	if err != nil {
		return Result{}, err
	}
	return r, nil
}
