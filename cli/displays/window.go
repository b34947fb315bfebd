package displays

import (
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/internal/viewers"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
)

// Window returns what opens a viewer once the VM runs, as [display] type = "window" asks, and
// nothing to do for other VMs. The error says that it could not: before the VM is started.
func Window(ctx context.Context, c *call.Call, p *profiles.Profile) (open func(), err error) {
	if p.Display != profiles.Window {
		return func() {}, nil
	}
	fail := func(err error) error {
		return fmt.Errorf("show window of VM %q: %w", p.Name, err)
	}
	program, err := viewers.Find(ctx, c.Getenv("PATH"))
	if err != nil {
		return nil, fail(err)
	}
	socket := rundir.VM{RunDir: c.Places.Run, Name: p.Name}.Screen()
	if _, err := viewers.Command(program, socket, c.User, c.Getenv); err != nil {
		return nil, fail(err)
	}
	return func() {
		cmd, err := viewers.Command(program, socket, c.User, c.Getenv)
		if err == nil {
			cmd.SysProcAttr.Setsid = true // Ctrl-C is the VM's
			err = cmd.Start()
		}
		if err != nil {
			c.Warn(keeper.Note{Subject: fmt.Sprintf("VM %q", p.Name), Text: fail(err).Error(), Remedy: "qnet view " + p.Name})
			return
		}
		go cmd.Wait() //nolint:errcheck // the user closed the window
	}, nil
}
