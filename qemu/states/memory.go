package states

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/qnet-vm/qnet/internal/legible"
)

// Monitor is the QMP connection, see qmp.Monitor.
type Monitor interface {
	// Execute runs a command and decodes what it returns.
	Execute(ctx context.Context, name string, args, result any) error
	// ExecuteWith is Execute with a file for QEMU.
	ExecuteWith(ctx context.Context, file *os.File, name string, args, result any) error
}

const (
	// fileName is how QEMU calls a file that it was given for one command.
	fileName = "memory"
	// bandwidth is in bytes per second: QEMU's default of 128 MiB/s is meant for a network.
	bandwidth = 1 << 40
	// poll is the time between two questions how far QEMU is.
	poll = 10 * time.Millisecond
	// cancelTime is how long QEMU may take to end a migration that is given up.
	cancelTime = 30 * time.Second
)

// Save writes the memory and devices of a guest that does not run to the file, from its
// offset on. With an error the guest is as it was before, if QEMU lives.
func Save(ctx context.Context, m Monitor, to *os.File) error {
	if err := m.Execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": bandwidth}, nil); err != nil {
		return err
	}
	if err := migrate(ctx, m, to, "migrate"); err != nil {
		return fmt.Errorf("save memory: %w", err)
	}
	return nil
}

// Load reads what Save wrote. QEMU was started with "-incoming defer". After an error it is
// of no use.
func Load(ctx context.Context, m Monitor, from *os.File) error {
	if err := migrate(ctx, m, from, "migrate-incoming"); err != nil {
		return fmt.Errorf("load memory: %w", err)
	}
	return nil
}

// migrate gives QEMU the file, begins a migration, and waits for its end.
func migrate(ctx context.Context, m Monitor, file *os.File, command string) error {
	if err := m.ExecuteWith(ctx, file, "getfd", map[string]string{"fdname": fileName}, nil); err != nil {
		return err
	}
	if err := m.Execute(ctx, command, map[string]string{"uri": "fd:" + fileName}, nil); err != nil {
		// QEMU still has the file: it closes it only when it uses it.
		return errors.Join(err, m.Execute(context.WithoutCancel(ctx), "closefd", map[string]string{"fdname": fileName}, nil))
	}
	if command != "migrate" {
		return await(ctx, ctx, m) // a QEMU that does not answer is given up, too: it is of no use
	}
	err := await(ctx, context.WithoutCancel(ctx), m)
	if ctx.Err() == nil {
		return err
	}
	// Given up. Until QEMU has ended the migration, it would stop the guest again.
	ctx = context.WithoutCancel(ctx)
	if err := m.Execute(ctx, "migrate_cancel", nil, nil); err != nil {
		return err
	}
	ctx, done := context.WithTimeout(ctx, cancelTime)
	defer done()
	if ended := await(ctx, context.WithoutCancel(ctx), m); ended == nil || ctx.Err() != nil {
		return ended // it was complete already, or hangs
	}
	return err
}

// await waits for the end of a migration, and returns why it failed. Each question for it is
// asked within the context ask.
func await(ctx, ask context.Context, m Monitor) error {
	for {
		var status struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := m.Execute(ask, "query-migrate", nil, &status); err != nil {
			return err
		}
		switch status.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return errors.New(legible.Text(cmp.Or(status.Error, "QEMU says: "+status.Status)))
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// pause waits a moment.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(poll):
		return nil
	}
}
