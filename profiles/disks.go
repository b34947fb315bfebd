package profiles

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/qnet-vm/qnet/profiles/strict"
)

func (d *decoder) disks(raws []rawDisk, dir string, image bool) []Disk {
	most := maxDisks
	if image {
		most--
	}
	if len(raws) > most {
		d.Fail("disk", "got %d, allowed: at most %d, with one made of image", len(raws), maxDisks)
	}
	var disks []Disk
	for i, r := range raws {
		disk := d.disk(fmt.Sprintf("disk[%d].", i), r, dir)
		if r.File != "" && slices.ContainsFunc(disks, func(o Disk) bool { return o.File == disk.File }) {
			d.Fail(fmt.Sprintf("disk[%d].file", i), "got %s, which another disk has already", strict.Quote(r.File))
		}
		disks = append(disks, disk)
	}
	return disks
}

func (d *decoder) disk(key string, r rawDisk, dir string) Disk {
	disk := Disk{
		File: d.path(key+"file", dir, r.File), Format: r.Format, Snapshot: r.Snapshot, ReadOnly: r.ReadOnly,
		Type: DiskType(cmp.Or(r.Type, string(HardDisk))), Create: r.Create,
		Size: d.size(key+"size", r.Size), Base: d.path(key+"base", dir, r.Base),
	}
	bus, format := VirtIO, ""
	switch {
	case disk.Type == CDROM:
		bus, format = SATA, "raw"
		disk.ReadOnly = true
	case disk.Create || disk.Base != "":
		format = "qcow2"
	}
	disk.Bus = Bus(cmp.Or(r.Bus, string(bus)))
	disk.Format = cmp.Or(r.Format, format)
	if disk.Base != "" {
		disk.BaseFormat = cmp.Or(r.BaseFormat, "qcow2")
	}
	d.fit(key, r, disk)
	return disk
}

// fit checks the keys of a disk against each other.
func (d *decoder) fit(key string, r rawDisk, disk Disk) {
	if r.File == "" && r.Base == "" {
		d.Fail(key+"file", "missing: image file, relative to the profile; only a disk with base needs none")
	}
	if disk.Format == "" {
		d.Fail(key+"format", "missing: image format; never guessed, because a guest could change the guess; allowed: raw, qcow2")
	}
	made := disk.Create || r.Base != ""
	if disk.Type == CDROM {
		d.fitCDROM(key, r, disk)
	}
	d.unless(disk.Create && r.Base != "", key+"create", "got true with base: an overlay on a base is made without it")
	d.unless(disk.Create && r.Size == "", key+"size", "missing: create makes a disk of this size")
	d.unless(made && (disk.ReadOnly || disk.Create && disk.Snapshot), key+"readonly", "a disk that is made is one to write to: leave out readonly and snapshot")
	d.unless(r.Base != "" && disk.Format != "qcow2", key+"format", "got raw with base: an overlay is qcow2")
	d.unless(r.Size != "" && !made, key+"size", "got a size, but an image has its own; a missing file is made with create = true")
	d.unless(r.BaseFormat != "" && r.Base == "", key+"base_format", "got a format of base, but no base")
}

func (d *decoder) fitCDROM(key string, r rawDisk, disk Disk) {
	d.unless(disk.Format != "raw", key+"format", "got qcow2 for a cdrom, allowed: raw")
	d.unless(disk.Bus == VirtIO || disk.Bus == NVMe, key+"bus", "got "+r.Bus+" for a cdrom, allowed: sata, scsi, usb")
	d.unless(disk.Create || r.Base != "" || disk.Snapshot, key+"type", "got cdrom with create, base or snapshot; a cdrom is never written")
}

// unless reports what is wrong with the key if something is.
func (d *decoder) unless(wrong bool, key, msg string) {
	if wrong {
		d.Fail(key, "%s", msg)
	}
}
