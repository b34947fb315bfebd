package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/profiles"
)

// load reads a profile with the rights of the user behind sudo. The name, if there is
// one, replaces the profile's.
func (a *app) load(path, name string) (*profiles.Profile, error) {
	if name != "" && !profiles.ValidName(name) {
		return nil, &usage{fmt.Sprintf("--name: got %.80q, allowed: %s", name, profiles.NamePattern)}
	}
	if why := profiles.Reserved(name); why != "" {
		return nil, &usage{fmt.Sprintf("--name: got %q, which %s; allowed: another name", name, why)}
	}
	reader := profiles.Reader{Home: a.user.Home(a.Getenv)}
	var p *profiles.Profile
	err := a.user.Do(func() (err error) {
		p, err = reader.Load(path)
		return err
	})
	if bad := (profiles.Errors{}); errors.As(err, &bad) {
		return nil, err
	}
	if a.user != nil && errors.Is(err, os.ErrPermission) {
		return nil, &usage{err.Error() + "; it is read with your own rights, also under sudo: copy it to where you may read it"}
	}
	if err != nil {
		return nil, &usage{err.Error()} // there is none, it may not be read, it is a directory
	}
	if name != "" {
		p.Name = name
	}
	return p, nil
}

// profile loads the profile of a command that has no other operand.
func (a *app) profile(c *cli.Context) (*profiles.Profile, error) {
	args, err := operands(c, "PROFILE")
	if err != nil {
		return nil, err
	}
	return a.load(args[0], "")
}
