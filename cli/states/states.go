// Package states has the commands that hold a guest and let it go on: in memory, on disk, and
// in snapshots. Each command has a file of its own.
package states

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
)

// states is one invocation of one of the commands.
type states struct{ *call.Call }

// Commands returns the commands in the order of the help text. They may be run once c has
// its user and places.
func Commands(c *call.Call) []*cli.Command {
	s := states{c}
	return []*cli.Command{s.pauseCommand(), s.resumeCommand(), s.suspendCommand(), s.snapshotCommand()}
}

// do has a running VM carry out an operation.
func (s *states) do(ctx context.Context, name string, op control.Operation, result any) error {
	_, runDir, err := s.Places.Find(ctx, name)
	if err != nil {
		return err
	}
	progress := s.Progress(name)
	defer progress("")
	return control.Do(ctx, runDir, name, op, result, control.DoOptions{
		Report: progress,
		Ended:  func() { progress("what was made for it to be undone") },
	})
}
