package hardware

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/internal/virtiofs"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// tagOf returns the tag by which the guest mounts a share, by its index in the profile.
func tagOf(i int) string { return fmt.Sprintf("share%d", i) }

// Mounts returns what a profile's guest mounts at each boot.
func Mounts(p *profiles.Profile) []firstboot.Mount {
	var list []firstboot.Mount
	for i, s := range p.Shares {
		list = append(list, firstboot.Mount{Tag: tagOf(i), Path: s.Mount, ReadOnly: s.ReadOnly})
	}
	return list
}

// openShares opens the folders that the profile shares, and finds the program that serves
// them.
func (f *Files) openShares(p *profiles.Profile) error {
	err := f.openFolders(p)
	if err == nil && len(p.Shares) > 0 {
		f.virtiofsd, err = virtiofs.Find(f.o.getenv("QNET_VIRTIOFSD"))
	}
	return err
}

// openFolders opens the folders that the profile shares. Each must be where the profile may
// reach. The error has all that are wrong, a *FileError or a *reachable.Error each.
func (f *Files) openFolders(p *profiles.Profile) error {
	if len(p.Shares) == 0 {
		return nil
	}
	return f.o.User.Do(func() error {
		var errs []error
		for i, s := range p.Shares {
			key := reachable.Key("share", i, ".path")
			if err := f.reach.Outside(key, s.Path); err != nil {
				errs = append(errs, err)
				continue
			}
			folder, err := os.OpenFile(s.Path, os.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				errs = append(errs, &FileError{What: "share", Path: s.Path, Err: errors.Unwrap(err)})
				continue
			}
			f.opened = append(f.opened, folder)
			f.folders = append(f.folders, virtiofs.Share{Folder: folder, ReadOnly: s.ReadOnly, Keep: kept(p.Path, folder)})
			errs = append(errs, f.reach.Check(key, s.Path, folder))
		}
		return errors.Join(errs...)
	})
}

// stage is the command that runs virtiofs.Main.
var stage = []string{"/proc/self/exe", "virtiofs"}

// Serve starts a virtiofsd for each folder that is shared, with the rights of the user
// behind sudo, and gives the machine their sockets. The process must be root for that if
// there is such a user. dir is where a socket can be made for a moment, and log gets what
// virtiofsd writes. Unserve ends them.
func (f *Files) Serve(dir string, log io.Writer) error {
	for _, share := range f.folders {
		d, err := virtiofs.Start(share, virtiofs.Options{Exe: stage, Program: f.virtiofsd, User: f.o.User, Dir: dir, Log: log})
		if err != nil {
			return errors.Join(err, f.Unserve())
		}
		f.serving = append(f.serving, d)
	}
	return nil
}

// kept returns the profile's path in a folder that has it: a guest that could write its own
// profile would choose what the next run shares with it.
func kept(profile string, folder *os.File) []string {
	place, err := reachable.Place(folder)
	if err != nil {
		return nil
	}
	if profile, err = filepath.EvalSymlinks(profile); err != nil {
		return nil // a profile that is not there is in no folder
	}
	path, err := filepath.Rel(place, profile)
	if err != nil || !filepath.IsLocal(path) {
		return nil
	}
	return []string{path}
}

// LeaveServing closes the caller's own sockets of the shares once QEMU has them: virtiofsd
// ends when the last one is closed.
func (f *Files) LeaveServing() {
	for _, d := range f.serving {
		d.Socket().Close()
	}
}

// endsTogether is how long the ends of QEMU and of a virtiofsd may lie apart where one is
// the cause of the other.
const endsTogether = 2 * time.Second

// WatchServing tells of each virtiofsd that ends while the VM runs: the guest's requests are
// not answered any more, and the guest's kernel waits for them. ending is closed when QEMU
// begins to end. It returns at once.
func (f *Files) WatchServing(p *profiles.Profile, ending <-chan struct{}, tell func(text, remedy string)) {
	for i, d := range f.serving {
		go func() {
			<-d.Done()
			select {
			case <-ending:
			case <-time.After(endsTogether):
				tell(
					fmt.Sprintf("%v; programs in the guest that use %s hang", d.Err(), p.Shares[i].Mount),
					fmt.Sprintf("end the VM by qnet stop --force %s, and run it again", p.Name),
				)
			}
		}()
	}
}

// explainServing adds to a failed start how a virtiofsd ended, which may be why.
func (f *Files) explainServing(err error) error {
	for _, d := range f.serving {
		if ended := d.Err(); ended != nil {
			err = fmt.Errorf("%w\n%w", err, ended)
		}
	}
	return err
}

// Unserve ends what serves the folders.
func (f *Files) Unserve() error {
	if f == nil {
		return nil
	}
	var errs []error
	for _, d := range f.serving {
		errs = append(errs, d.Stop())
	}
	f.serving = nil
	return errors.Join(errs...)
}

// shares returns the machine's shares: those that are served, and for a plan those of the
// profile.
func (f *Files) shares(p *profiles.Profile) []machine.Share {
	var list []machine.Share
	for i := range p.Shares {
		share := machine.Share{Tag: tagOf(i), Socket: planned}
		if i < len(f.serving) {
			share.Socket = f.serving[i].Socket()
		}
		list = append(list, share)
	}
	return list
}
