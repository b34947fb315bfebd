// Package screen looks at a VM's screen, types on its keyboard, and connects viewers to it,
// all by QMP. Files and connections go to QEMU open: QEMU opens and listens to nothing.
package screen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/qemu/qmp"
)

// Monitor is the part of qmp.Monitor that this package uses.
type Monitor interface {
	Execute(ctx context.Context, name string, args, result any) error
	ExecuteWith(ctx context.Context, file *os.File, name string, args, result any) error
}

// ErrNone is wrapped by the error for a VM without a screen.
var ErrNone error = noScreen{}

type noScreen struct{}

func (noScreen) Error() string { return "the VM has no screen" }

// Hint says how it gets one.
func (noScreen) Hint() string { return `[display] type = "vnc" in its profile gives it one` }

// MaxShot bounds a picture, in bytes. The largest screen of a VGA card with 16 MiB, all
// noise, has that.
const MaxShot = 32 << 20

// Shot returns what the first screen shows, as PNG. QEMU draws it anew for that.
func Shot(ctx context.Context, m Monitor) ([]byte, error) {
	picture, err := shot(ctx, m)
	if err != nil {
		return nil, fmt.Errorf("take picture of the screen: %w", err)
	}
	return picture, nil
}

func shot(ctx context.Context, m Monitor) ([]byte, error) {
	fd, err := unix.MemfdCreate("picture", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make file in memory: %w", err)
	}
	picture := os.NewFile(uintptr(fd), "picture")
	defer picture.Close()
	// QEMU takes a file of an fdset only if it was opened for just what QEMU does with it.
	writable, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer writable.Close()
	var added struct {
		Set int `json:"fdset-id"`
	}
	if err := m.ExecuteWith(ctx, writable, "add-fd", nil, &added); err != nil {
		return nil, err
	}
	args := map[string]string{"filename": "/dev/fdset/" + strconv.Itoa(added.Set), "format": "png"}
	err = m.Execute(ctx, "screendump", args, nil)
	var refused *qmp.Error
	if errors.As(err, &refused) && strings.Contains(refused.Desc, "no console") {
		err = ErrNone
	}
	if err := errors.Join(err, m.Execute(context.WithoutCancel(ctx), "remove-fd", map[string]int{"fdset-id": added.Set}, nil)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(picture, 0, MaxShot+1))
	if err == nil && len(b) > MaxShot {
		err = fmt.Errorf("it has more than %d bytes", MaxShot)
	}
	return b, err
}

var viewers atomic.Uint64

// AddViewer gives QEMU's VNC server a client: a connected socket. The caller may close it
// afterwards. The client needs no password: the caller decides who may connect.
func AddViewer(ctx context.Context, m Monitor, client *os.File) error {
	name := fmt.Sprintf("viewer%d", viewers.Add(1))
	if err := m.ExecuteWith(ctx, client, "getfd", map[string]string{"fdname": name}, nil); err != nil {
		return fmt.Errorf("connect viewer: %w", err)
	}
	args := map[string]any{"protocol": "vnc", "fdname": name, "skipauth": true}
	if err := m.Execute(ctx, "add_client", args, nil); err != nil {
		return fmt.Errorf("connect viewer: %w", err)
	}
	return nil
}

// wait waits for a time, or less if the context ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
