package reachable

import (
	"errors"
	"fmt"

	"github.com/qnet-vm/qnet/profiles"
)

// Qnets are places of qnet's own that some keys may name, too, and of the user's that a guest has
// to do with anyway. "" is none. The paths are absolute.
type Qnets struct {
	Images string   // cache of images, for what is only read
	VM     string   // the directory of the VM's lasting files, for its disks
	Keys   []string // files of public keys that let the user in where the profile has no keys
}

// named is a file or folder of the host that a profile names.
type named struct {
	key, path string
	also      []string // where it may lead besides; "" is nowhere
	made      bool     // a run makes it when it is missing
}

// namedBy lists all that a profile names of the host. Nothing may be among another VM's files: those
// are what that VM's guest wrote, and its keys.
func namedBy(p *profiles.Profile, q Qnets) []named {
	var list []named
	add := func(made bool, key, path string, also ...string) {
		if path != "" {
			list = append(list, named{key, path, also, made})
		}
	}
	add(false, "image", p.Image.File, q.Images)
	add(false, "boot.kernel", p.Boot.Kernel, q.Images)
	add(false, "boot.initrd", p.Boot.Initrd, q.Images)
	if g := p.Guest; g != nil {
		for i, k := range g.Keys {
			add(false, Key("guest.keys", i, ""), k.File, q.Keys...)
		}
		add(false, "guest.user_data", g.UserData)
	}
	for i, d := range p.Disks {
		also := []string{q.VM}
		if d.ReadOnly || d.Snapshot {
			also = append(also, q.Images)
		}
		add(d.Create || d.Base != "", Key("disk", i, ".file"), d.File, also...)
		add(false, Key("disk", i, ".base"), d.Base, q.VM, q.Images)
	}
	for i, s := range p.Shares {
		add(false, Key("share", i, ".path"), s.Path)
	}
	return list
}

// Key returns the key in a table, or the element of an array, such as "disk[0].file".
func Key(array string, i int, rest string) string { return fmt.Sprintf("%s[%d]%s", array, i, rest) }

// All refuses what the profile names outside, before anything is opened. The error is a Refusal, or
// says that the place of a disk to be made cannot be told. What is opened afterwards has to be
// checked again.
func (f *Folders) All() error {
	var refused Refusal
	for _, n := range f.named {
		err := f.CheckPath(n.key, n.path)
		if outside, ok := errors.AsType[*Error](err); ok {
			refused = append(refused, outside)
		} else if err != nil && n.made { // of others, opening them says what is wrong
			return err
		}
	}
	if len(refused) > 0 {
		return refused
	}
	return nil
}
