package machine

import (
	"fmt"
	"os"
)

// Slots of shares: eight functions of one slot, which it has in common with the last disk.
const (
	slotShare = slotNIC - 1
	maxShares = 8 // functions of a slot
)

// Share is a folder of the host that another process, virtiofsd, shares with the guest.
type Share struct {
	Tag    string   // by which the guest mounts it, 1 to 36 bytes
	Socket *os.File // connected to virtiofsd
}

func (c Config) validateShares() error {
	if len(c.Shares) == 0 {
		return nil
	}
	switch {
	case len(c.Shares) > maxShares:
		return badConfig("shares", "got %d, at most %d fit", len(c.Shares), maxShares)
	case len(c.Disks) == maxDisks:
		return badConfig("disks", "got %d, at most %d fit beside shares", len(c.Disks), maxDisks-1)
	}
	for i, s := range c.Shares {
		if !names().MatchString(s.Tag) || len(s.Tag) > 36 { // virtio_fs_config in linux/virtio_fs.h
			return badConfig(fmt.Sprintf("share %d", i), "tag %q is not a name of letters, digits, dots, dashes and underscores, 1 to 36 long", s.Tag)
		}
	}
	return nil
}

// memory is the id of the guest's memory where another process shares it.
const memory = "memory0"

// shares adds the folders, and memory that virtiofsd can map: it reads and writes the
// guest's buffers itself.
func (b *builder) shares(c Config) {
	if len(c.Shares) == 0 {
		return
	}
	b.json("-object", options{"qom-type": "memory-backend-memfd", "id": memory, "size": c.Memory, "share": true})
	for i, s := range c.Shares {
		id := fmt.Sprintf("share%d", i)
		b.add("-chardev", "socket,id="+id+"-socket,fd="+b.file(s.Socket))
		device := options{
			"driver": "vhost-user-fs-pci", "id": id, "chardev": id + "-socket", "tag": s.Tag,
			"addr": fmt.Sprintf("%s.%d", slot(slotShare), i),
		}
		if i == 0 {
			device["multifunction"] = true
		}
		b.json("-device", device)
	}
}

// memoryOption is the machine's option for shared memory, "" without shares.
func (c Config) memoryOption() string {
	if len(c.Shares) == 0 {
		return ""
	}
	return ",memory-backend=" + memory
}
