package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/service"
	"github.com/qnet-vm/qnet/netsetup/host"
)

// remove stops a service only with --now: its guest may be at work.
func (s services) remove(c *cli.Context, vm string) error {
	m, err := s.manager(c, true)
	if err == nil {
		err = has(m, vm)
	}
	if err == nil {
		err = m.Running()
	}
	if err != nil {
		return fmt.Errorf("remove service: %w", err)
	}
	state, err := m.Show(c.Context, vm)
	if err != nil {
		return err
	}
	if runs := state.Active == "active" || state.Active == "activating"; runs && !c.Bool("now") {
		return host.Refuse("the service of VM %q runs: give --now to stop it as well, or stop it first with systemctl stop %s", vm, service.UnitName(vm))
	}
	// While the unit is there, the manager knows how to stop it.
	if err := errors.Join(m.Stop(c.Context, vm), m.Disable(c.Context, vm)); err != nil {
		return err
	}
	if err := os.Remove(m.File(vm)); err != nil {
		return fmt.Errorf("remove service: %w", err)
	}
	return m.Reload(c.Context)
}

// has returns an error if the VM has no service.
func has(m service.Manager, vm string) error {
	vms, err := m.Installed()
	if err == nil && !slices.Contains(vms, vm) {
		return &noService{vm}
	}
	return err
}

// noService tells that a VM has no service.
type noService struct{ vm string }

// Error names the VM.
func (e *noService) Error() string { return "VM " + strconv.Quote(e.vm) + " has no service" }

// Hint says what to do instead.
func (e *noService) Hint() string {
	return "qnet service status lists those that are there, with --user your own"
}

// status shows one service, or all.
func (s services) status(c *cli.Context, vm string) error {
	m, err := s.manager(c, false)
	if err != nil {
		return err
	}
	vms, err := m.Installed()
	if err == nil && vm != "" {
		vms, err = []string{vm}, has(m, vm)
	}
	if err != nil {
		return fmt.Errorf("show services: %w", err)
	}
	states, err := show(c.Context, m, vms)
	if err != nil {
		return fmt.Errorf("show services: %w", err)
	}
	if c.Bool("json") {
		return s.JSON(states)
	}
	return s.Table("VM SERVICE AT-BOOT STATUS UNIT", func(row call.Row) {
		for _, st := range states {
			row(st.VM, active(st), yesNo(st.Enabled), call.OrDash(st.Status), st.Unit)
		}
	})
}

// active is a unit's state, and why it failed.
func active(s service.State) string {
	if s.Result == "" {
		return s.Active
	}
	return s.Active + " (" + s.Result + ")"
}

func yesNo(it bool) string {
	if it {
		return "yes"
	}
	return "no"
}

func show(ctx context.Context, m service.Manager, vms []string) ([]service.State, error) {
	states := make([]service.State, 0, len(vms))
	for _, vm := range vms {
		if err := m.Running(); err != nil {
			return nil, err
		}
		state, err := m.Show(ctx, vm)
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	return states, nil
}
