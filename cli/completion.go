package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/cli/completion"
)

func (a *app) completionCommand() *cli.Command {
	return &cli.Command{Name: "completion", Usage: "print shell completion", ArgsUsage: "bash|zsh|fish", Action: a.completion}
}

func (a *app) completion(c *cli.Context) error {
	args, err := call.Operands(c, "one of bash, zsh, fish")
	if err != nil {
		return err
	}
	script, ok := completion.Script(c.App, args[0])
	if !ok {
		return &call.Usage{Text: fmt.Sprintf("completion: got %q, allowed: bash, zsh, fish", args[0])}
	}
	fmt.Fprint(a.Stdout, script)
	return nil
}
