package call

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/profiles"
)

// Load reads the profile that an operand means, see Source, with the rights of the user
// behind sudo. The name, if there is one, replaces the profile's.
func (c *Call) Load(operand, name string) (*profiles.Profile, error) {
	if name != "" && !profiles.ValidName(name) {
		return nil, &Usage{Text: fmt.Sprintf("--name: got %.80q, allowed: %s", name, profiles.NamePattern)}
	}
	if why := profiles.Reserved(name); why != "" {
		return nil, &Usage{Text: fmt.Sprintf("--name: got %q, which %s; allowed: another name", name, why)}
	}
	source, err := c.Source(operand, name)
	if err != nil {
		return nil, err
	}
	reader := profiles.Reader{Home: c.User.Home(c.Getenv)}
	var p *profiles.Profile
	err = c.User.Do(func() (err error) {
		if source.Text != "" {
			p, err = reader.Decode(strings.NewReader(source.Text), source.Path)
		} else {
			p, err = reader.Load(source.Path)
		}
		return err
	})
	if bad := (profiles.Errors{}); errors.As(err, &bad) {
		return nil, err
	}
	if c.User != nil && errors.Is(err, os.ErrPermission) {
		return nil, &Usage{Text: err.Error() + "; it is read with your own rights, also under sudo: copy it to where you may read it"}
	}
	if err != nil {
		return nil, &Usage{Text: err.Error()} // there is none, it may not be read, it is a directory
	}
	if name != "" {
		p.Name = name
	}
	p.Allowed = source.Allowed
	if c.isOwn(p) {
		p.Allowed = []string{"/"}
	}
	return p, nil
}

// Profile loads the profile of a command that has no other operand.
func (c *Call) Profile(invoked *cli.Context) (*profiles.Profile, error) {
	args, err := Operands(invoked, "PROFILE")
	if err != nil {
		return nil, err
	}
	return c.Load(args[0], "")
}
