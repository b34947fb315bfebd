package states

import (
	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
)

func (s *states) pauseCommand() *cli.Command {
	return &cli.Command{
		Name: "pause", Usage: "have a guest stand still, in memory", ArgsUsage: "NAME",
		Description: "Its memory, network and address are kept. \"qnet resume\" lets it go on.",
		Action:      s.pause,
	}
}

func (s *states) pause(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	ran := false
	if err := s.do(c.Context, args[0], control.Operation{Name: "pause"}, &ran); err != nil {
		return err
	}
	if !ran {
		s.Talk("%s: it is paused already", args[0])
	}
	return nil
}
