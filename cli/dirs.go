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

// Root's directories.
const (
	rootRunDir   = "/run/qnet"
	rootStateDir = "/var/lib/qnet"
)

// before chooses the directories, for every command. Flags override the environment.
func (a *app) before(c *cli.Context) error {
	user, err := asuser.Lookup(a.Getenv)
	if err != nil {
		return err
	}
	a.user = user
	runDir := cmp.Or(c.String("run-dir"), a.Getenv("QNET_RUN_DIR"))
	stateDir := cmp.Or(c.String("state-dir"), a.Getenv("QNET_STATE_DIR"))
	a.runDir, a.stateDir = cmp.Or(runDir, a.defaultRunDir()), cmp.Or(stateDir, a.defaultStateDir())
	if os.Geteuid() != 0 && runDir == "" && a.runDir != rootRunDir {
		a.rootRunDir = rootRunDir
	}
	if os.Geteuid() != 0 && stateDir == "" {
		a.rootStateDir = rootStateDir
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
	return filepath.Join(a.defaultStateDir(), "run") // after su(1), and for cron(8)
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

// stateDirOf returns the state directory of a profile's runs. Runs that need root's
// rights use root's, also when a user only asks what a run would do, of whatever profile (nil).
func (a *app) stateDirOf(p *profiles.Profile) string {
	if a.rootStateDir != "" && (p == nil || len(supervisor.NetworksOf(p)) > 0) {
		return a.rootStateDir
	}
	return a.stateDir
}

// runDirOf returns the run directory of a profile's runs, as stateDirOf does.
func (a *app) runDirOf(p *profiles.Profile) string {
	if a.rootRunDir != "" && (p == nil || len(supervisor.NetworksOf(p)) > 0) {
		return a.rootRunDir
	}
	return a.runDir
}

// find asks a VM for its state, and returns the run directory that the VM is in: the
// user's own or root's, for a VM that the user started with sudo.
func (a *app) find(ctx context.Context, name string) (s control.State, runDir string, err error) {
	s, err = control.Find(ctx, a.runDir, name)
	if a.rootRunDir == "" || !errors.Is(err, control.ErrNotRunning) {
		return s, a.runDir, err
	}
	s, err = control.Find(ctx, a.rootRunDir, name)
	return s, a.rootRunDir, err
}

// list returns all VMs whose sockets the user may use.
func (a *app) list(ctx context.Context) ([]control.State, error) {
	states, err := control.List(ctx, a.runDir)
	if err != nil || a.rootRunDir == "" {
		return states, err
	}
	more, err := control.List(ctx, a.rootRunDir)
	return append(states, more...), err
}
