package hardware

import (
	"os"
	"strconv"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/firstboot"
	"github.com/qnet-vm/qnet/internal/firstboot/gather"
	"github.com/qnet-vm/qnet/internal/firstboot/volume"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu/machine"
)

// ignitionBlob is where Ignition finds its config.
const ignitionBlob = "opt/com.coreos/config"

// told is what QEMU needs to tell a guest at its first boot; nil for a guest that qnet
// tells nothing.
type told struct {
	files    volume.Files
	guest    control.Guest
	settings firstboot.Settings
}

// Seed makes what the guest gets at its first boot, where the profile says [guest] or has an
// image. The MACs in it come of the salt, which may not exist before the files are open.
func (f *Files) Seed(p *profiles.Profile, salt []byte) error {
	if !gather.Wanted(p) {
		return nil
	}
	settings, err := gather.Settings(f.request(p, salt, f.Kept.Dir))
	if err != nil {
		return err
	}
	seed, err := firstboot.New(settings)
	if err != nil {
		return err
	}
	t := &told{settings: settings, guest: control.Guest{User: settings.User, Identity: gather.OwnKey(f.o.Config)}}
	for _, k := range settings.HostKeys {
		t.guest.HostKeys = append(t.guest.HostKeys, k.Public)
	}
	if t.files, err = volume.Make(seed); err != nil {
		return err
	}
	f.opened = append(f.opened, t.files.All()...)
	f.told = t
	return f.Kept.Update(func(r *vmdir.Record) { r.User = settings.User })
}

// Guest is what clients need to log in to the guest; nil if qnet told it nothing.
func (f *Files) Guest() *control.Guest {
	if f.told == nil {
		return nil
	}
	return &f.told.guest
}

func (f *Files) request(p *profiles.Profile, salt []byte, dir vmdir.Dir) gather.Request {
	getenv := f.o.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	r := gather.Request{
		Mounts:  Mounts(p),
		Profile: p, DefaultUser: f.Image.User, VM: dir, Config: f.o.Config, User: f.o.User, Home: f.o.User.Home(getenv), Getenv: getenv,
	}
	for i, n := range p.NICs {
		r.NICs = append(r.NICs, firstboot.NIC{MAC: MAC(p, i, salt).String(), Mode: n.Mode, IPv6: p.Networks[n.Network].IPv6})
	}
	return r
}

// tell adds to the machine what the guest gets at its first boot: a disk behind all others,
// so that their names in the guest stay, strings and a blob. In a plan they have places.
func tell(c *machine.Config, p *profiles.Profile, files *Files) {
	if !gather.Wanted(p) {
		return
	}
	var v volume.Files
	switch {
	case files.told != nil:
		v = files.told.files
	case files.infos != nil: // of a run, before Seed
		return
	case gather.Ignition(p):
		v.Ignition = planned
	default:
		v.Disk, v.SMBIOS = planned, []*os.File{planned}
	}
	if v.Disk != nil {
		c.Disks = append(c.Disks, machine.Disk{File: v.Disk, Format: "raw", ReadOnly: true})
		c.Agent = true // the documents on the disk have its other end
	}
	c.Strings = v.SMBIOS
	if v.Ignition != nil {
		c.Blobs = []machine.Blob{{Name: ignitionBlob, File: v.Ignition}}
	}
}

// PlanSeed tells what a guest gets at its first boot; nil for one that qnet tells nothing.
// It makes nothing.
func PlanSeed(p *profiles.Profile, o Options, salt []byte) (*firstboot.Plan, error) {
	if !gather.Wanted(p) {
		return nil, nil
	}
	dir, err := vmdir.New(o.VMs, p.Name)
	if err != nil {
		return nil, err
	}
	f := &Files{o: o}
	if image, err := o.store().Resolve(p.Image); err == nil && p.Image != (profiles.Image{}) {
		f.Image.User = image.User
	}
	settings, err := gather.Preview(f.request(p, salt, dir))
	if err != nil {
		return nil, err
	}
	if _, err := firstboot.New(settings); err != nil {
		return nil, err
	}
	plan := &firstboot.Plan{InstanceID: settings.InstanceID(), User: settings.User, Keys: len(settings.Keys) + 1, Documents: map[string]string{}}
	shown := settings.Blanked()
	if settings.UserData.Text != "" && !gather.Ignition(p) {
		plan.Documents["user-data of "+settings.UserData.File] = "(" + strconv.Itoa(len(settings.UserData.Text)) + " bytes, which are not shown)"
		shown.UserData = firstboot.UserData{}
	}
	seed, err := firstboot.New(shown)
	for _, d := range seed.Documents {
		plan.Documents[d.Name] = d.Text
	}
	if seed.Ignition != nil {
		plan.Documents["config.ign"] = string(seed.Ignition)
	}
	return plan, err
}
