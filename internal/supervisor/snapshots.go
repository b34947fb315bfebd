package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/snapshots"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/standstill"
)

// snapshotsOf returns the VM for package snapshots, and the tag that the operation is about.
func (s *session) snapshotsOf(vm *qemu.VM, args json.RawMessage) (v snapshots.VM, tag string, err error) {
	place, err := s.savedPlace()
	if err != nil {
		return v, "", err
	}
	var a snapshots.Args
	if err := json.Unmarshal(args, &a); err != nil {
		return v, "", fmt.Errorf("read arguments: %w", err)
	}
	return snapshots.VM{Monitor: vm.Monitor(), Config: vm.Config(), QEMU: saved.VersionOf(vm.Monitor()), Dir: place.Dir, User: s.User}, a.Tag, nil
}

func takeSnapshot(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, tell func(string)) (any, error) {
	v, tag, err := s.snapshotsOf(vm, args)
	if err != nil {
		return nil, err
	}
	tell("the snapshot")
	return nil, v.Take(ctx, tag)
}

func listSnapshots(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, _ func(string)) (any, error) {
	v, _, err := s.snapshotsOf(vm, args)
	if err != nil {
		return nil, err
	}
	return v.List(ctx)
}

func deleteSnapshot(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, _ func(string)) (any, error) {
	v, tag, err := s.snapshotsOf(vm, args)
	if err != nil {
		return nil, err
	}
	return nil, v.Remove(ctx, tag)
}

// restoreSnapshot puts the guest back, lets it go on if it ran, and has its DHCP client ask
// again.
func restoreSnapshot(ctx context.Context, s *session, vm *qemu.VM, args json.RawMessage, tell func(string)) (any, error) {
	v, tag, err := s.snapshotsOf(vm, args)
	if err != nil {
		return nil, err
	}
	ran, err := vm.Guest().Hold(ctx, standstill.ForSaving)
	if err != nil {
		return nil, err
	}
	tell("the snapshot")
	err = v.Restore(ctx, tag)
	if !ran || errors.Is(err, snapshots.ErrTorn) {
		return nil, err
	}
	if _, again := vm.Guest().Release(ctx); again != nil || err != nil {
		return nil, errors.Join(err, again)
	}
	s.replugAll(ctx)
	return nil, nil
}
