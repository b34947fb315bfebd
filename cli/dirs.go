package cli

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/profiles"
)

// before decides the directories, for every command.
func (a *app) before(c *cli.Context) error {
	user, err := asuser.Lookup(a.Getenv)
	if err != nil {
		return err
	}
	a.user = user
	a.runDir = cmp.Or(c.String("run-dir"), a.Getenv("QNET_RUN_DIR"), a.defaultRunDir())
	a.stateDir = cmp.Or(c.String("state-dir"), a.Getenv("QNET_STATE_DIR"), a.defaultStateDir())
	if os.Geteuid() != 0 && c.String("run-dir") == "" && a.Getenv("QNET_RUN_DIR") == "" && a.runDir != rootRunDir {
		a.elsewhere = rootRunDir
	}
	if os.Geteuid() != 0 && c.String("state-dir") == "" && a.Getenv("QNET_STATE_DIR") == "" {
		a.rootsState = rootStateDir
	}
	for _, dir := range []*string{&a.runDir, &a.stateDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) defaultRunDir() string {
	if os.Geteuid() == 0 {
		return rootRunDir
	}
	if xdg := a.Getenv("XDG_RUNTIME_DIR"); xdg != "" {
		return filepath.Join(xdg, "qnet")
	}
	return filepath.Join(a.defaultStateDir(), "run") // after su(1), of cron(8)
}

// stateOf is the state directory of a profile's runs: root's, where these need
// rights, also for a user who only asks what a run would do.
func (a *app) stateOf(p *profiles.Profile) string {
	if a.rootsState != "" && len(supervisor.NetworksOf(p)) > 0 {
		return a.rootsState
	}
	return a.stateDir
}

// runOf is the run directory of a profile's runs, as stateOf is the state directory.
func (a *app) runOf(p *profiles.Profile) string {
	if a.elsewhere != "" && len(supervisor.NetworksOf(p)) > 0 {
		return a.elsewhere
	}
	return a.runDir
}

// find asks a VM for its state, and says in which run directory it is.
func (a *app) find(ctx context.Context, name string) (s control.State, runDir string, err error) {
	s, err = control.Find(ctx, a.runDir, name)
	if a.elsewhere == "" || !errors.Is(err, control.ErrNotRunning) {
		return s, a.runDir, err
	}
	// What sudo started is under root's directory, and its user's own.
	s, err = control.Find(ctx, a.elsewhere, name)
	return s, a.elsewhere, err
}

// list returns all VMs that the caller may ask.
func (a *app) list(ctx context.Context) ([]control.State, error) {
	states, err := control.List(ctx, a.runDir)
	if err != nil || a.elsewhere == "" {
		return states, err
	}
	more, err := control.List(ctx, a.elsewhere)
	return append(states, more...), err
}

func (a *app) defaultStateDir() string {
	if os.Geteuid() == 0 {
		return rootStateDir
	}
	if xdg := a.Getenv("XDG_STATE_HOME"); xdg != "" {
		return filepath.Join(xdg, "qnet")
	}
	return filepath.Join(a.Getenv("HOME"), ".local/state/qnet")
}
