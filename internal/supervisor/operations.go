package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/standstill"
)

// operation is something that a client may ask of a running VM, see control.Operation.
type operation func(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, tell func(string)) (any, error)

// operations are all of them, by their names in the protocol.
var operations = map[string]operation{
	"pause":  pause,
	"resume": resume,
}

var errStarts = errors.New("it still starts")

// Do carries out an operation, for control.VM.
func (s *session) Do(ctx context.Context, op string, args json.RawMessage, tell func(string)) (any, error) {
	do, known := operations[op]
	if !known {
		var names []string
		for name := range operations {
			names = append(names, name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("operation %q: its supervisor knows %s", op, strings.Join(names, ", "))
	}
	s.mu.Lock()
	vm := s.vm
	s.mu.Unlock()
	if vm == nil {
		return nil, errStarts
	}
	return do(ctx, s, vm, args, tell)
}

// pause has the guest stand still until resume. The result tells whether it ran.
func pause(ctx context.Context, _ *session, vm *qemu.VM, _ json.RawMessage, _ func(string)) (any, error) {
	return vm.Guest().Hold(ctx, standstill.ByUser)
}

// resume lets a guest go on. The result tells whether it stood still.
func resume(ctx context.Context, _ *session, vm *qemu.VM, _ json.RawMessage, _ func(string)) (any, error) {
	return vm.Guest().Release(ctx)
}
