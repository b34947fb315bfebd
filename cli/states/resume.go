package states

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/signals"
	"github.com/qnet-vm/qnet/internal/vmdir"
)

func (s *states) resumeCommand() *cli.Command {
	return &cli.Command{
		Name: "resume", Usage: "let a guest go on that was paused or suspended", ArgsUsage: "NAME",
		Description: "A suspended VM runs in the background then; qnet console shows it.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "discard", Usage: "forget what was saved of a suspended VM, and boot it"},
		},
		Action: s.resume,
	}
}

func (s *states) resume(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	name := args[0]
	stood := false
	err = s.do(c.Context, name, control.Operation{Name: "resume"}, &stood)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return s.restart(c, name, err)
	case err != nil:
		return err
	case !stood:
		s.Talk("%s: it runs already", name)
	}
	return nil
}

// restart starts the VM that was suspended, in the background, as it was run then. Without
// one, the error is that it does not run.
func (s *states) restart(c *cli.Context, name string, notRunning error) error {
	dir, err := vmdir.New(s.Places.VMs, name)
	if err != nil {
		return notRunning
	}
	r, ok, err := saved.Place{Dir: dir, User: s.User}.Load()
	if !ok {
		return fmt.Errorf("%w, and it was not suspended", notRunning)
	}
	if err != nil {
		return err
	}
	profile := r.Profile
	if _, _, err := s.Record(name); err == nil {
		profile = name // which knows also a VM that is run by its image's name
	}
	args := append(call.Again(c), "run", "-d", "--name", name)
	if c.Bool("discard") {
		args = append(args, "--fresh")
	}
	for _, dir := range r.Allowed {
		args = append(args, "--allow-path", dir)
	}
	args = append(append(args, profile, "--"), r.Extra...)
	cmd := exec.CommandContext(c.Context, "/proc/self/exe", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, s.Stdout, s.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start VM %q: %w", name, err)
	}
	defer signals.Forward(cmd.Process)()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) { // it has said why
		return errors.Join(&call.ExitStatus{Code: exit.ExitCode()}, call.ErrSilent)
	}
	return err
}
