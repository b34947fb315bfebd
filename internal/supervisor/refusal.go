package supervisor

import (
	"errors"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
)

// FilesRefusal returns the error by which a run of the profile would be refused now for the
// sake of its files: a *FileError, a *qemu.ConfigError, or one that is imagelock.ErrInUse.
// It opens the files as a run does, with the rights of the user behind sudo, and changes
// nothing.
func FilesRefusal(p *profiles.Profile, user *asuser.User) error {
	o := opener{user: user}
	defer o.close()
	files, err := o.openAll(p)
	if err != nil {
		return err
	}
	machine := QEMUConfig(p, nil, files, nil)
	machine.NICs = nil // they have no taps
	_, err = qemu.Check(machine)
	return err
}

// BadFiles returns a *qemu.ConfigError for what is wrong with the profile's files
// themselves, and nil for files that are missing, or in use: that may pass. It is nil
// without a profile.
func BadFiles(p *profiles.Profile, user *asuser.User) error {
	if p == nil {
		return nil
	}
	var bad *qemu.ConfigError
	if err := FilesRefusal(p, user); errors.As(err, &bad) {
		return err
	}
	return nil
}
