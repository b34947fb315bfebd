package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/qnet-vm/qnet/netsetup/keeper"
)

// ErrUnknown is wrapped by the error for an operation that a VM's supervisor does not know,
// because it is of an older qnet.
var ErrUnknown = errors.New("its supervisor, of an older qnet, does not know that; restart the VM")

// An Operation is something that a client asks of a running VM and that has an answer, such
// as "pause".
type Operation struct {
	Name string // as VM.Do knows it
	Args any    // in JSON; nil for none; with the rest of the request 64 KiB at most
	Ends bool   // done, the VM ends, as by Stop: the client waits for that
	Most int64  // bytes that the answer may have; 0 is 1 MiB
}

// DoOptions say whom to tell what happens. The functions may be nil.
type DoOptions struct {
	Report func(string) // gets what the operation does meanwhile
	Ended  func()       // of an operation that Ends: called when QEMU has ended and the undo goes on
}

// Do has a VM carry out an operation, and decodes its answer into result, unless that is nil.
// An error of the VM has its kinds (see keeper.WireError) and its hint. An operation that
// Ends returns when the supervisor has ended, as Stop does.
func Do(ctx context.Context, runDir, name string, op Operation, result any, o DoOptions) error {
	args, err := json.Marshal(op.Args)
	if err != nil {
		return fmt.Errorf("ask VM %q: %w", name, err)
	}
	c, err := call(ctx, runDir, name, request{Op: opDo, Do: op.Name, Args: args, Ends: op.Ends})
	if err != nil {
		return err
	}
	defer c.close()
	h := hearing{op: op, vm: name, result: result, options: o}
	for replies := answers(c).upTo(op.Most); ; {
		var r reply
		if err := replies.decode(&r); err != nil {
			if !h.done && ctx.Err() == nil {
				return h.failed(ErrDied)
			}
			return c.ended(name, Version, h.last)
		}
		if over, err := h.hear(r); over || err != nil {
			return err
		}
	}
}

// hearing is what a client of an operation has heard.
type hearing struct {
	op      Operation
	vm      string
	result  any
	options DoOptions
	done    bool
	last    *end
}

func (h *hearing) failed(err error) error { return fmt.Errorf("%s VM %q: %w", h.op.Name, h.vm, err) }

// hear takes a reply, and reports whether it is the last one.
func (h *hearing) hear(r reply) (over bool, err error) {
	switch {
	case r.Error == unknownRequest+opDo:
		return true, h.failed(ErrUnknown)
	case r.Error != "":
		return true, h.failed(errors.New(r.Error))
	case r.Failed != nil:
		return true, h.failed(r.Failed)
	case r.Done:
		h.done = true
		if err := decodeResult(r.Result, h.result); err != nil {
			return true, h.failed(err)
		}
		return !h.op.Ends, nil
	case r.Last != nil:
		h.last = r.Last
	case r.Ended && h.options.Ended != nil:
		h.options.Ended()
	case r.Report != "" && h.options.Report != nil:
		h.options.Report(r.Report)
	}
	return false, nil
}

func decodeResult(b json.RawMessage, result any) error {
	if result == nil {
		return nil
	}
	err := json.Unmarshal(b, result)
	escape(reflect.ValueOf(result))
	return err
}

// failure is an operation's error as it crosses.
type failure struct {
	keeper.WireError
	Advice string `json:"hint,omitempty"`
}

// Hint says what to do next.
func (f *failure) Hint() string { return f.Advice }

func toFailure(err error) *failure {
	f := &failure{WireError: *keeper.ToWire(err)}
	var own interface{ Hint() string }
	if errors.As(err, &own) {
		f.Advice = own.Hint()
	}
	return f
}

type askedBy struct{}

// AskedBy is the context of an operation that a user asked for.
func AskedBy(ctx context.Context, uid uint32) context.Context {
	return context.WithValue(ctx, askedBy{}, uid)
}

// Asker is the user who asked for the operation that the context is of. One that the VM's own
// supervisor began is root's, as what its profile asks for was root's to allow.
func Asker(ctx context.Context) (uid uint32) {
	uid, _ = ctx.Value(askedBy{}).(uint32)
	return uid
}

// do has the VM carry out an operation, and answers the client.
func (s *Server) do(c *waiter, req request) {
	if req.Ends && !s.begin(c) {
		return
	}
	ctx := AskedBy(context.Background(), c.conn.UID()) // an operation that has begun is not given up with its client
	result, err := s.vm.Do(ctx, req.Do, req.Args, func(what string) { s.tell(c, reply{Report: what}) })
	answer := reply{Done: true}
	if err == nil {
		answer.Result, err = json.Marshal(result)
	}
	if err != nil {
		answer = reply{Failed: toFailure(err)}
	}
	s.tell(c, answer)
	if err != nil || !req.Ends {
		s.mu.Lock()
		delete(s.clients, c)
		s.mu.Unlock()
		c.conn.Close()
		return
	}
	s.vm.Rungs(func(string) {})
	s.tell(c, reply{Ended: true})
}
