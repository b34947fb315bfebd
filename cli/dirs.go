package cli

import (
	"cmp"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/place"
)

// placeless are commands that keep and look for no file of qnet's: they work also for a
// user without a home.
var placeless = []string{"", "check", "schema", "version", "completion", "help", "h"}

// before chooses the directories, for every command. Flags override the environment.
func (a *app) before(c *cli.Context) (err error) {
	if a.User, err = asuser.Lookup(a.Getenv); err != nil {
		return err
	}
	runDir := cmp.Or(c.String("run-dir"), a.Getenv("QNET_RUN_DIR"))
	stateDir := cmp.Or(c.String("state-dir"), a.Getenv("QNET_STATE_DIR"))
	p, err := place.Choose(a.Getenv, a.User, runDir, stateDir)
	words := c.Args().Slice()
	if errors.Is(err, place.ErrNoHome) && (slices.Contains(placeless, c.Args().First()) || slices.Contains(words, "--help") || slices.Contains(words, "-h")) {
		return nil
	}
	if err != nil {
		return &call.Usage{Text: err.Error()}
	}
	a.Places = p
	return nil
}
