package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/viewers"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/screen"
)

// listenForGDB makes the socket that QEMU serves gdb at, if the profile wants one.
func (s *session) listenForGDB(ctx context.Context) error {
	if !s.profile.Devices.GDB {
		return nil
	}
	path := s.place.GDB()
	l, err := viewers.Listen(ctx, path, s.User)
	if err != nil {
		return fmt.Errorf("listen for gdb: %w", s.unusable("run directory", s.RunDir, err))
	}
	s.onClose(func(context.Context) error { return asuser.AsRoot(l.Close) })
	if s.files.GDB, err = l.File(); err != nil {
		return fmt.Errorf("listen for gdb: %w", err)
	}
	s.onClose(func(context.Context) error { return s.files.GDB.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.GDB = path
	return nil
}

// listenForViewers makes the socket of the VM's screen, if it has one. Viewers are served
// when QEMU runs.
func (s *session) listenForViewers(ctx context.Context) error {
	if s.profile.Display != profiles.VNC && s.profile.Display != profiles.Window {
		return nil
	}
	path := s.place.Screen()
	l, err := viewers.Listen(ctx, path, s.User)
	if err != nil {
		return fmt.Errorf("listen for viewers: %w", s.unusable("run directory", s.RunDir, err))
	}
	s.onClose(func(context.Context) error { return asuser.AsRoot(l.Close) })
	s.showScreen = func(vm *qemu.VM) {
		go viewers.Serve(context.WithoutCancel(ctx), l, // until the socket is closed
			func(ctx context.Context, viewer *os.File) error { return screen.AddViewer(ctx, vm.Monitor(), viewer) },
			func(err error) { s.tell(err.Error()) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Screen = path
	return nil
}

// takePicture answers with what the screen shows, as PNG.
func takePicture(ctx context.Context, _ *session, vm *qemu.VM, _ json.RawMessage, _ func(string)) (any, error) {
	return screen.Shot(ctx, vm.Monitor())
}

// typeKeys types the strokes.
func typeKeys(ctx context.Context, _ *session, vm *qemu.VM, args json.RawMessage, _ func(string)) (any, error) {
	var strokes []screen.Stroke
	if err := json.Unmarshal(args, &strokes); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return nil, screen.Type(ctx, vm.Monitor(), strokes)
}
