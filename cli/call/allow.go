package call

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/profiles"
)

// AllowPathFlag is the flag of each command that opens what a profile names.
func AllowPathFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "allow-path", Usage: "let the profile name `DIR` and what is below it; without, only its own folder"}
}

// Allow lets the profile name what is below the folders of --allow-path, and below those that
// an earlier run of its VM was allowed: Load's, and more of them. It says so.
func (c *Call) Allow(invoked *cli.Context, p *profiles.Profile, more ...string) error {
	allow(p, more...)
	if len(p.Allowed) > 0 && !c.isOwn(p) {
		c.Talk("%s: its profile may name what is below %s, as --allow-path of its last run said", p.Name, strings.Join(p.Allowed, ", "))
	}
	return allowFlags(invoked, p)
}

// MayReach refuses a profile that names what it would not reach after Allow. It changes neither
// the profile nor anything else.
func (c *Call) MayReach(invoked *cli.Context, p *profiles.Profile, more ...string) error {
	tried := *p
	tried.Allowed = slices.Clone(p.Allowed)
	allow(&tried, more...)
	if err := allowFlags(invoked, &tried); err != nil {
		return err
	}
	return hardware.MayReach(&tried, c.Files())
}

func allowFlags(invoked *cli.Context, p *profiles.Profile) error {
	for _, dir := range invoked.StringSlice("allow-path") {
		path, err := filepath.Abs(dir)
		if dir == "" || err != nil {
			return &Usage{Text: fmt.Sprintf("--allow-path: got %.80q, allowed: a folder", dir)}
		}
		allow(p, path)
	}
	return nil
}

// allow adds folders that the profile does not have yet.
func allow(p *profiles.Profile, dirs ...string) {
	for _, dir := range dirs {
		if !slices.Contains(p.Allowed, dir) {
			p.Allowed = append(p.Allowed, dir)
		}
	}
}

// isOwn reports whether the profile is in its VM's directory. It may name everything: the user
// wrote it, by qnet edit, and nobody hands such a file on.
func (c *Call) isOwn(p *profiles.Profile) bool {
	return c.Places.VMs != "" && filepath.Dir(filepath.Dir(p.Path)) == c.Places.VMs
}
