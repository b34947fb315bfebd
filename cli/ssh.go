package cli

import (
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/reach"
	"github.com/qnet-vm/qnet/internal/sshclient"
)

func (a *app) sshCommand() *cli.Command {
	return &cli.Command{
		Name: "ssh", Usage: "wait for a VM's SSH port and run ssh", ArgsUsage: "NAME [-- COMMAND]",
		Description: "qnet keeps host keys in a file of its own. It accepts the key of a VM the first time that it sees the name.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "login", Aliases: []string{"l"}, Usage: "log in as `USER`"},
			&cli.DurationFlag{Name: "timeout", Value: 2 * time.Minute, Usage: "wait for the port for `TIME`, such as 30s or 2m"},
		},
		Action: a.ssh,
	}
}

func (a *app) ssh(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) == 0 {
		return &usage{"ssh needs NAME; see qnet ssh --help"}
	}
	command := args[1:]
	if len(command) > 0 && command[0] != "--" {
		return &usage{fmt.Sprintf("ssh takes one NAME; a command such as %q goes behind --", command[0])}
	} else if len(command) > 0 {
		command = command[1:]
	}
	program, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("run ssh: %w", err)
	}
	address, err := a.await(c.Context, args[0], reach.Goal{Port: 22}, c.Duration("timeout"))
	if err != nil {
		return err
	}
	cmd, err := sshclient.Command(program, a.user, a.stateDir, sshclient.Session{
		VM: args[0], Address: address, Login: c.String("login"), Command: command,
	})
	if err != nil {
		return err
	}
	return a.runProgram(cmd)
}

// exitStatus makes an exit code that of qnet: another program's, or one that a table
// explains.
type exitStatus struct{ code int }

// Error returns a text that is not printed: the user has seen the cause.
func (e *exitStatus) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// runProgram runs a program on qnet's terminal. Its exit code becomes qnet's.
func (a *app) runProgram(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.Stdin, a.Stdout, a.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return errors.Join(errSilent, &exitStatus{exit.ExitCode()})
	}
	return err
}
