package machine

import (
	"os"

	"github.com/qnet-vm/qnet/internal/pattern"
)

// Blob is a file that the guest's system finds by its name in the firmware configuration
// device (docs/specs/fw_cfg.rst of QEMU).
type Blob struct {
	Name string // such as "opt/com.coreos/config"
	File *os.File
}

// blobNames are those that users of QEMU may choose: below "opt/", and without what QEMU's
// option would take for its end.
var blobNames = pattern.Of(`^opt/[a-z0-9./_-]{1,50}$`)

// maxStrings bounds the strings of SMBIOS type 11, which have numbers of one byte.
const maxStrings = 255

func (c Config) validateTold() error {
	if len(c.Strings) > maxStrings {
		return badConfig("strings of SMBIOS", "got %d, at most %d", len(c.Strings), maxStrings)
	}
	for _, b := range c.Blobs {
		if !blobNames().MatchString(b.Name) {
			return badConfig("blob", "%q does not match %s", b.Name, blobNames())
		}
	}
	return nil
}

// told passes what the guest reads of its machine. QEMU opens these files by path, once for
// each start, so that none begins at the end of another reading.
func (b *builder) told(c Config) {
	for _, f := range c.Strings {
		b.add("-smbios", "type=11,path="+b.named("/proc/self/fd/"+b.file(f), f))
	}
	for _, blob := range c.Blobs {
		b.add("-fw_cfg", "name="+blob.Name+",file="+b.named("/proc/self/fd/"+b.file(blob.File), blob.File))
	}
}
