package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Manager is systemd: of the system, or of the user who calls.
type Manager struct {
	Dir  string // of the unit files
	user bool
}

// System returns the system's manager. Only root can change anything there.
func System() Manager { return Manager{Dir: "/etc/systemd/system"} }

// Users returns the manager of the user with this directory for settings (XDG_CONFIG_HOME).
func Users(config string) Manager { return Manager{filepath.Join(config, "systemd", "user"), true} }

// ErrNoManager is returned where systemd does not run.
var ErrNoManager = errors.New("systemd does not run here")

// Running returns ErrNoManager where the manager does not run (sd_booted(3)).
func (m Manager) Running() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return ErrNoManager
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return fmt.Errorf("%w: there is no systemctl in the PATH", ErrNoManager)
	}
	return nil
}

// File is the path of a VM's unit file.
func (m Manager) File(vm string) string { return filepath.Join(m.Dir, UnitName(vm)) }

// Installed returns the VMs that have a Unit here, by their names.
func (m Manager) Installed() (vms []string, err error) {
	files, err := filepath.Glob(filepath.Join(m.Dir, UnitName("*")))
	for _, file := range files {
		if text, readErr := os.ReadFile(file); readErr == nil && Made(string(text)) {
			vms = append(vms, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "qnet-"), ".service"))
		}
	}
	return vms, err
}

// Reload has the manager read its unit files again.
func (m Manager) Reload(ctx context.Context) error { return m.run(ctx, "daemon-reload") }

// Enable has a VM's unit started when the host boots, or the user logs in; Disable no longer.
func (m Manager) Enable(ctx context.Context, vm string) error {
	return m.run(ctx, "enable", "--quiet", UnitName(vm))
}

// Disable is the opposite of Enable.
func (m Manager) Disable(ctx context.Context, vm string) error {
	return m.run(ctx, "disable", "--quiet", UnitName(vm))
}

// Start starts a VM's unit, and waits until its guest runs.
func (m Manager) Start(ctx context.Context, vm string) error {
	return m.run(ctx, "start", UnitName(vm))
}

// Stop stops it, and waits until it has ended. It forgets that the unit failed, if it did.
func (m Manager) Stop(ctx context.Context, vm string) error {
	err := m.run(ctx, "stop", UnitName(vm))
	m.run(ctx, "reset-failed", UnitName(vm)) //nolint:errcheck // it fails where the unit did not
	return err
}

// State is what the manager knows of a unit.
type State struct {
	VM      string `json:"vm"`
	Active  string `json:"active"`           // such as active, activating, inactive, failed
	Enabled bool   `json:"enabled"`          // started at boot
	Result  string `json:"result,omitempty"` // why it failed, such as exit-code; "" if it did not
	Status  string `json:"status,omitempty"` // what the service says of itself
	Unit    string `json:"unit"`             // the file
}

// Show returns the state of a VM's unit.
func (m Manager) Show(ctx context.Context, vm string) (State, error) {
	out, err := m.output(ctx, "show", "--property=ActiveState,UnitFileState,Result,StatusText", UnitName(vm))
	s := State{VM: vm, Unit: m.File(vm)}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ActiveState":
			s.Active = value
		case "UnitFileState":
			s.Enabled = value == "enabled"
		case "Result":
			if value != "success" {
				s.Result = value
			}
		case "StatusText":
			s.Status = value
		}
	}
	return s, err
}

func (m Manager) run(ctx context.Context, args ...string) error {
	_, err := m.output(ctx, args...)
	return err
}

// output runs systemctl. The error has what it says.
func (m Manager) output(ctx context.Context, args ...string) (string, error) {
	argv := append([]string{"--no-pager", "--no-ask-password"}, args...)
	if m.user {
		argv = append([]string{"--user"}, argv...)
	}
	cmd := exec.CommandContext(ctx, "systemctl", argv...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		text := "systemctl"
		if m.user {
			text += " --user"
		}
		return "", fmt.Errorf("%s %s: %w: %s", text, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return string(out), nil
}
