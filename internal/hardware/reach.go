package hardware

import (
	"os"

	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/sshkey"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
)

// reaches returns where the profile may reach. Call it with the user's rights.
func (o Options) reaches(p *profiles.Profile) (*reachable.Folders, error) {
	q := reachable.Qnets{Images: o.Images, Keys: sshkey.HomeFiles(o.User.Home(o.getenv))}
	if dir, err := vmdir.New(o.VMs, p.Name); err == nil { // else it has no lasting files
		q.VM = dir.Path()
	}
	return reachable.Of(p, o.Config, q)
}

// MayReach refuses all that the profile names outside the folders that it may reach, before
// anything is opened. The error is a reachable.Refusal, or says what is wrong in the user's
// settings, or that the place of a disk to be made cannot be told.
func MayReach(p *profiles.Profile, o Options) error { return (&Files{o: o}).mayReach(p) }

// mayReach is MayReach. What is opened afterwards is checked again, by its descriptor: see
// openNamed.
func (f *Files) mayReach(p *profiles.Profile) error {
	return f.o.User.Do(func() (err error) {
		if f.reach, err = f.o.reaches(p); err != nil {
			return err
		}
		return f.reach.All()
	})
}

// openNamed opens a file that the profile names by the key, as open does, where the profile may
// reach. path is what is opened, such as the image that the one of the profile was made into.
// The error may be a *reachable.Error.
//
// A disk was made, or enlarged, by its path before: while another program swaps links in the
// profile's folder, that may happen elsewhere. No guest gets to see that file.
func (f *Files) openNamed(what, key, path string, flags int) (*os.File, error) {
	file, err := f.open(what, path, flags)
	if err != nil || file == nil {
		return file, err
	}
	return file, f.o.User.Do(func() error { return f.reach.Check(key, path, file) })
}
