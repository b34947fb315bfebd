package hardware

import (
	"github.com/qnet-vm/qnet/internal/reachable"
	"github.com/qnet-vm/qnet/profiles"
)

// mayReach refuses what the profile's disks rest on, and where they are made, outside the
// folders that the profile may reach. The error is a *reachable.Error.
func (f *Files) mayReach(p *profiles.Profile) error {
	folders := reachable.Of(p.Path, append([]string{f.o.VMs, f.o.Images}, p.Allowed...)...)
	return f.o.User.Do(func() error {
		if p.Image.File != "" {
			if err := folders.CheckPath("image", p.Image.File); err != nil {
				return err
			}
		}
		for _, d := range p.Disks {
			if d.Base != "" {
				if err := folders.CheckPath("base", d.Base); err != nil {
					return err
				}
			}
			if made(d) && d.File != "" {
				if err := folders.CheckPath("disk", d.File); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
