package hardware

import (
	"time"

	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/profiles"
)

// KeysOn says on what the guest keeps what it makes at its first boot, such as its host
// keys: its first disk that can be written to. Where that is thrown away at the end, or
// there is none, it is this run, which started then. The words are for comparing only.
func (f *Files) KeysOn(p *profiles.Profile, started time.Time) (string, error) {
	for i, d := range Disks(p) {
		switch {
		case d.ReadOnly:
			continue
		case d.Snapshot:
			return runOf(started), nil
		}
		var disk string
		err := f.o.User.Do(func() (err error) {
			disk, err = disks.Identify(f.Disks[i].File)
			return err
		})
		return disk, err
	}
	return runOf(started), nil
}

func runOf(started time.Time) string { return "of the run of " + started.Format(time.RFC3339Nano) }
