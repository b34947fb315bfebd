package hardware

import (
	"errors"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// Refusal returns the error by which a run of the profile would be refused now for the
// sake of its files: a *FileError, a *machine.ConfigError, or one that is imagelock.ErrInUse.
// It opens the files as a run does, with the rights of the user behind sudo, and changes
// nothing.
func Refusal(p *profiles.Profile, user *asuser.User) error {
	files, err := Open(p, user)
	if err != nil {
		return err
	}
	defer files.Close()
	c := Config(p, nil, files, nil)
	c.NICs = nil // they have no taps
	_, err = machine.Check(c)
	return err
}

// BadFiles returns a *machine.ConfigError for what is wrong with the profile's files
// themselves, and nil for files that are missing, or in use: that may pass. It is nil
// without a profile.
func BadFiles(p *profiles.Profile, user *asuser.User) error {
	if p == nil {
		return nil
	}
	var bad *machine.ConfigError
	if err := Refusal(p, user); errors.As(err, &bad) {
		return err
	}
	return nil
}
