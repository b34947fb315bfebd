package hardware

import "github.com/qnet-vm/qnet/internal/asuser"

// Options say whose files a machine is made of, and where the lasting ones are kept. The zero
// value is the caller, who keeps none. The directories are those of place.Places.
type Options struct {
	User   *asuser.User // the user behind sudo; nil is the caller
	VMs    string       // directory of the VMs' directories, see package vmdir; "" for a user without a home
	Images string       // cache of images, likewise
	Config string       // the user's settings, likewise
	Ledger string       // file that remembers the digests of bases; "" is that in VMs

	// Base is what the disk of the profile's image begins from in place of the image, if this
	// run makes the disk: a disk that has the image as its own base. It is zero for the image.
	Base Base

	Getenv   func(string) string // environment of the call; nil is an empty one
	Progress func(what string)   // gets what takes long, and "" when it is over; may be nil
	Warn     func(text string)   // gets what the user should know; may be nil
	Tell     func(text string)   // gets what happens while the VM runs; may be nil
}

// Base is a disk of a guest that was booted for others to begin from, see package warm.
type Base struct {
	Path   string // absolute, below Options.Images
	Digest string // of the file, as in disks.Pin
}

func (o Options) progress(what string) {
	if o.Progress != nil {
		o.Progress(what)
	}
}

func (o Options) warn(text string) {
	if o.Warn != nil {
		o.Warn(text)
	}
}

func (o Options) getenv(name string) string {
	if o.Getenv == nil {
		return ""
	}
	return o.Getenv(name)
}
