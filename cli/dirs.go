package cli

import (
	"cmp"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/place"
	"github.com/qnet-vm/qnet/internal/supervisor"
	"github.com/qnet-vm/qnet/profiles"
)

// placeless are commands that keep and look for no file of qnet's: they work also for a
// user without a home.
var placeless = []string{"", "check", "schema", "version", "completion", "help", "h"}

// before chooses the directories, for every command. Flags override the environment.
func (a *app) before(c *cli.Context) (err error) {
	if a.user, err = asuser.Lookup(a.Getenv); err != nil {
		return err
	}
	runDir := cmp.Or(c.String("run-dir"), a.Getenv("QNET_RUN_DIR"))
	stateDir := cmp.Or(c.String("state-dir"), a.Getenv("QNET_STATE_DIR"))
	p, err := place.Choose(a.Getenv, a.user, runDir, stateDir)
	words := c.Args().Slice()
	if errors.Is(err, place.ErrNoHome) && (slices.Contains(placeless, c.Args().First()) || slices.Contains(words, "--help") || slices.Contains(words, "-h")) {
		return nil
	}
	if err != nil {
		return &usage{err.Error()}
	}
	a.places = p
	return nil
}

// dirsOf returns the run and the state directory of a profile's runs. Runs that need root's
// rights use root's, also when a user only asks what a run would do, of whatever profile (nil).
func (a *app) dirsOf(p *profiles.Profile) (runDir, stateDir string) {
	return a.places.Of(p == nil || len(supervisor.NetworksOf(p)) > 0)
}
