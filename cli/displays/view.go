package displays

import (
	"fmt"
	"os/exec"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/viewers"
	"github.com/qnet-vm/qnet/qemu/screen"
)

func (d displays) viewCommand() *cli.Command {
	return &cli.Command{
		Name: "view", Usage: "show a VM's screen in a window", ArgsUsage: "NAME",
		Description: "Runs TigerVNC's vncviewer, or gvncviewer, on the VM's socket, until its window is closed. The VM needs a screen:\n[display] type = \"vnc\" in its profile.\n\nExample: qnet view web",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "print", Usage: "print the path of the socket, which speaks VNC, and run nothing"}},
		Action:      d.view,
	}
}

func (d displays) view(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	state, _, err := d.Places.Find(c.Context, args[0])
	switch {
	case err != nil:
		return err
	case state.Screen == "":
		return fmt.Errorf("view VM %q: %w", args[0], screen.ErrNone)
	case c.Bool("print"):
		fmt.Fprintln(d.Stdout, state.Screen)
		return nil
	}
	viewer, err := d.viewer(c, state.Screen)
	if err != nil {
		return fmt.Errorf("view VM %q by %s: %w", args[0], state.Screen, err)
	}
	viewer.Stderr = d.Stderr
	if err := viewer.Run(); err != nil {
		return fmt.Errorf("view VM %q: %s: %w", args[0], viewer.Path, err)
	}
	return nil
}

func (d displays) viewer(c *cli.Context, socket string) (*exec.Cmd, error) {
	program, err := viewers.Find(c.Context, d.Getenv("PATH"))
	if err != nil {
		return nil, err
	}
	return viewers.Command(program, socket, d.User, d.Getenv)
}
