package states

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/signals"
)

func (s *states) suspendCommand() *cli.Command {
	return &cli.Command{
		Name: "suspend", Usage: "save a guest to disk and end its VM", ArgsUsage: "NAME",
		Description: "Memory and devices go to a file of yours; the VM's network, processes and memory are freed. \"qnet resume\"\nor the next \"qnet run\" goes on from there, with the same addresses.",
		Action:      s.suspend,
	}
}

// outcome is what the VM answers.
type outcome struct {
	Bytes int64 `json:"bytes"`
}

func (s *states) suspend(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	defer signals.OnInterrupt(func() { s.Line.Set("") })()
	var result outcome
	if err := s.do(c.Context, args[0], control.Operation{Name: "suspend", Ends: true}, &result); err != nil {
		return err
	}
	s.Talk("%s: saved, %s; qnet resume %[1]s goes on from there", args[0], size(result.Bytes))
	return nil
}

// size is a number of bytes for a person.
func size(bytes int64) string {
	if bytes < 1<<20 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
