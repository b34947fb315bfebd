package call

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/profiles"
)

// AllowPathFlag is the flag of each command that opens what a profile names.
func AllowPathFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "allow-path", Usage: "let the profile name `DIR` and what is below it; without, only its own folder"}
}

// Allow lets the profile name what is below the folders of --allow-path.
func Allow(invoked *cli.Context, p *profiles.Profile) error {
	for _, dir := range invoked.StringSlice("allow-path") {
		path, err := filepath.Abs(dir)
		if dir == "" || err != nil {
			return &Usage{Text: fmt.Sprintf("--allow-path: got %.80q, allowed: a folder", dir)}
		}
		p.Allowed = append(p.Allowed, path)
	}
	return nil
}
