package vms

import (
	"errors"
	"io/fs"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
)

func (v vms) startCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "run a VM again, in the background, by its name", ArgsUsage: "NAME",
		Description: "A VM that keeps a disk was run before; its profile, or its image, is known.",
		Flags:       v.does.StartFlags(), Action: v.start,
	}
}

func (v vms) start(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	if _, dir, err := v.Record(args[0]); errors.Is(err, fs.ErrNotExist) {
		return &neverRan{args[0], dir.Name() != "" && dir.Suspended()}
	}
	return v.does.Start(c, args[0], args[0], nil)
}

// neverRan tells that a VM cannot be started by its name.
type neverRan struct {
	name      string
	suspended bool // and only its memory is kept
}

// Error names it.
func (e *neverRan) Error() string {
	return "start VM " + strconv.Quote(e.name) + ": it keeps no files, so that its profile is not known by its name"
}

// Hint says what to do instead.
func (e *neverRan) Hint() string {
	if e.suspended {
		return "qnet resume " + e.name + " goes on from where it was suspended"
	}
	return "qnet run PROFILE, or qnet run IMAGE, starts it; qnet ls lists the VMs that start by their names"
}

func (v vms) restartCommand() *cli.Command {
	return &cli.Command{
		Name: "restart", Usage: "stop a VM, and run it again in the background", ArgsUsage: "NAME",
		Description: "It runs with its profile as that is now. Arguments of QEMU's own are not given again.",
		Flags:       append(v.does.StartFlags(), &cli.BoolFlag{Name: "force", Usage: "do not ask the guest to shut down"}),
		Action:      v.restart,
	}
}

func (v vms) restart(c *cli.Context) error {
	args, err := call.Operands(c, "NAME")
	if err != nil {
		return err
	}
	operand, allowed := args[0], []string(nil) // the record has them
	s, _, err := v.Places.Find(c.Context, args[0])
	if errors.Is(err, control.ErrNotRunning) {
		return v.start(c)
	}
	if err != nil {
		return err
	}
	if _, _, err := v.Record(args[0]); errors.Is(err, fs.ErrNotExist) {
		operand, allowed = s.Profile, s.Allowed
	}
	// A profile that is wrong now is refused before the VM ends.
	p, err := v.Load(operand, args[0])
	if err == nil {
		err = v.MayReach(c, p, allowed...)
	}
	if err != nil {
		return err
	}
	if err := v.does.Stop(c.Context, args[0], c.Bool("force")); err != nil {
		return err
	}
	return v.does.Start(c, operand, args[0], allowed)
}
