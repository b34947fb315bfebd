// Package call is the core of one invocation of qnet: what it got from its process, where
// its files are, and how it speaks to the user. Package cli makes it; the packages of
// commands below cli get it.
package call

import (
	"io"
	"os"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/internal/place"
	"github.com/qnet-vm/qnet/internal/status"
	"github.com/qnet-vm/qnet/internal/terminal"
	"github.com/qnet-vm/qnet/profiles"
)

// Env is what a command gets from its process.
type Env struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// Call is one invocation.
type Call struct {
	Env
	User     *asuser.User // the user behind sudo, nil without one
	Places   place.Places
	Terminal *terminal.Terminal // that shows the console of a VM, now or later; else nil
	Line     *status.Line
	Speech   *terminal.Speech // through which a run writes to stderr; else nil
}

// New returns a call that knows neither user nor places yet.
func New(env Env) Call {
	return Call{Env: env, Line: status.New(env.Stderr, env.Getenv("TERM"))}
}

// Files says whose a profile's files are, and where those of VMs are kept.
func (c *Call) Files() hardware.Options {
	return hardware.Options{User: c.User, VMs: c.Places.VMs, Images: c.Places.Images, Config: c.Places.Config, Getenv: c.Getenv}
}

// DirsOf returns the run and the state directory of a profile's runs. Runs that need root's
// rights use root's, also when a user only asks what a run would do, of whatever profile (nil).
func (c *Call) DirsOf(p *profiles.Profile) (runDir, stateDir string) {
	return c.Places.Of(p == nil || len(nics.NetworksOf(p)) > 0)
}
