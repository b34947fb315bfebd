package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/guestagent"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/standstill"
)

// operation is something that a client may ask of a running VM, see control.Operation.
type operation func(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, tell func(string)) (any, error)

// operations are all of them, by their names in the protocol.
var operations = map[string]operation{
	"pause":   pause,
	"resume":  resume,
	"suspend": suspend,

	"snapshot save":    takeSnapshot,
	"snapshot ls":      listSnapshots,
	"snapshot restore": restoreSnapshot,
	"snapshot rm":      deleteSnapshot,

	"forward add": func(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, _ func(string)) (any, error) {
		return nil, s.forwards.Add(ctx, vm, args)
	},
	"forward rm": func(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, _ func(string)) (any, error) {
		return nil, s.forwards.Remove(ctx, vm, args)
	},

	"screenshot": takePicture,
	"type":       typeKeys,
}

var errStarts = errors.New("it still starts")

// Do carries out an operation, for control.VM.
func (s *session) Do(ctx context.Context, op string, args json.RawMessage, tell func(string)) (any, error) {
	do, known := operations[op]
	ask, ofAgent := guestagent.Operations[op]
	if !known && !ofAgent {
		names := append(slices.Sorted(maps.Keys(operations)), slices.Sorted(maps.Keys(guestagent.Operations))...)
		return nil, fmt.Errorf("operation %q: its supervisor knows %s", op, strings.Join(names, ", "))
	}
	s.mu.Lock()
	vm := s.vm
	s.mu.Unlock()
	if vm == nil {
		return nil, errStarts
	}
	if ofAgent { // which may take long, and changes nothing of qnet's
		return ask(ctx, vm.GuestAgent(), args)
	}
	s.one.Lock()
	defer s.one.Unlock()
	return do(ctx, s, vm, args, tell)
}

// pause has the guest stand still until resume. The result tells whether it ran.
func pause(ctx context.Context, s *session, vm *qemu.VM, _ json.RawMessage, _ func(string)) (any, error) {
	ran, err := vm.Guest().Hold(ctx, standstill.ByUser)
	if ran && err == nil {
		s.setHalt(standstill.Halt{Kind: standstill.Paused, Why: standstill.ByUser}) // QEMU's event may come later
	}
	return ran, err
}

// resume lets a guest go on. The result tells whether it stood still.
func resume(ctx context.Context, s *session, vm *qemu.VM, _ json.RawMessage, _ func(string)) (any, error) {
	stood, err := vm.Guest().Release(ctx)
	if stood && err == nil {
		s.setHalt(standstill.Halt{})
	}
	return stood, err
}
