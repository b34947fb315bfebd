package machine

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/qnet-vm/qnet/internal/pattern"
)

// How the guest sees a disk.
const (
	BusVirtIO = "virtio"
	BusSCSI   = "scsi"
	BusNVMe   = "nvme"
	BusSATA   = "sata"
	BusUSB    = "usb"
)

var (
	formats = []string{"raw", "qcow2"}
	buses   = []string{BusVirtIO, BusSCSI, BusNVMe, BusSATA, BusUSB}
	serials = pattern.Of(`^[A-Za-z0-9-]{0,20}$`)
)

// Disk is a disk, or a CD-ROM in its drive. File is opened for writing unless the disk is
// ReadOnly or a Snapshot.
type Disk struct {
	File     *os.File
	Format   string // "raw" or "qcow2", never probed
	Snapshot bool   // writes go to a temporary overlay and are lost
	ReadOnly bool

	Backing       *os.File // what a qcow2 File is an overlay on, opened for reading; nil for none
	BackingFormat string   // "raw" or "qcow2", never probed
	Below         *os.File // what a qcow2 Backing is an overlay on in its turn: a qcow2 image, opened for reading; nil for none

	Bus    string // "" is BusVirtIO
	CDROM  bool   // ReadOnly, on another bus than BusVirtIO and BusNVMe
	Serial string // by which guests name the disk, of up to 20 letters, digits and dashes; "" for none

	overlay      *os.File // of a snapshot; made by Prepare
	block        bool     // File is a block device; set by Prepare
	blockBacking bool     // likewise
}

func (d Disk) validate(object string) error {
	if d.Below != nil && d.BackingFormat != "qcow2" {
		return badConfig(object, "a base of format %q has no base", d.BackingFormat)
	}
	return d.validateOwn(object)
}

func (d Disk) validateOwn(object string) error {
	switch {
	case !slices.Contains(formats, d.Format):
		return badConfig(object, "format %q is not one of %s", d.Format, strings.Join(formats, ", "))
	case d.Backing != nil && !slices.Contains(formats, d.BackingFormat):
		return badConfig(object, "format %q of its base is not one of %s", d.BackingFormat, strings.Join(formats, ", "))
	case d.Backing != nil && d.Format != "qcow2":
		return badConfig(object, "format %q has no base", d.Format)
	case !slices.Contains(buses, d.bus()):
		return badConfig(object, "bus %q is not one of %s", d.Bus, strings.Join(buses, ", "))
	case d.CDROM && (!d.ReadOnly || d.bus() == BusVirtIO || d.bus() == BusNVMe):
		return badConfig(object, "a CD-ROM is read only, and on one of scsi, sata, usb")
	case !serials().MatchString(d.Serial), d.bus() == BusNVMe && d.Serial == "":
		return badConfig(object, "serial %q is not one of up to 20 letters, digits and dashes", d.Serial)
	}
	return nil
}

func (d Disk) bus() string {
	if d.Bus == "" {
		return BusVirtIO
	}
	return d.Bus
}

// object names the disk in errors.
func (d Disk) object(i int) string {
	if d.File == nil {
		return fmt.Sprintf("disk %d", i)
	}
	return fmt.Sprintf("disk %q", d.File.Name())
}

// readOnlyFile reports whether QEMU only reads the disk's own file.
func (d Disk) readOnlyFile() bool { return d.ReadOnly || d.Snapshot }

// Grows is the directory in which the disk's temporary overlay grows, "" for a disk
// without one.
func (d Disk) Grows() string {
	if d.layered() {
		return overlayDir
	}
	return ""
}

// layered reports whether the disk has a temporary overlay.
func (d Disk) layered() bool { return d.Snapshot && !d.ReadOnly }

// ImageNode is the name of the node of the i-th disk's image in QEMU.
func ImageNode(i int) string { return fmt.Sprintf("image%d", i) }

func (b *builder) disk(i int, d Disk, bootIndex int) {
	node := ImageNode(i)
	image := b.image(d)
	if d.layered() {
		image = options{
			"driver": "qcow2", "backing": image, "cache": options{"no-flush": true}, // the overlay is lost anyway
			"file": options{"driver": "file", "filename": b.fdset(d.overlay)},
		}
	}
	image["node-name"] = node
	if !d.ReadOnly {
		image["discard"] = "unmap"
	}
	b.json("-blockdev", image)
	device := options{"id": fmt.Sprintf("disk%d", i), "drive": node}
	maps.Copy(device, b.drive(i, d))
	if d.Serial != "" {
		device["serial"] = d.Serial
	}
	if !d.ReadOnly && d.bus() != BusNVMe { // which tells the guest of a failure
		// A write that fails stops the guest, and is done again when it goes on: an exceeded
		// quota or a lost server is as little the guest's to mend as a full disk.
		device["werror"] = "stop"
	}
	if bootIndex != notBooted {
		device["bootindex"] = bootIndex
	}
	b.json("-device", device)
}

// drive adds the controller of a disk, if it needs one, and returns the driver of the disk
// and its place. Each disk has a controller of its own in its own slot: so none changes its
// place when another is added.
func (b *builder) drive(i int, d Disk) options {
	addr := slot(slotDisk + i)
	kind := "hd"
	if d.CDROM {
		kind = "cd"
	}
	on := func(driver, controller string) options {
		id := fmt.Sprintf("%s%d", controller, i)
		b.json("-device", options{"driver": driver, "id": id, "addr": addr})
		return options{"bus": id + ".0"}
	}
	var place options
	switch d.bus() {
	case BusSCSI:
		place = on("virtio-scsi-pci", "scsi")
		place["driver"] = "scsi-" + kind
	case BusSATA:
		place = on("ich9-ahci", "ahci")
		place["driver"] = "ide-" + kind
	case BusUSB:
		place = on("qemu-xhci", "usb")
		place["driver"] = "usb-storage"
		if d.CDROM { // usb-storage has disks only
			bot := fmt.Sprintf("bot%d", i)
			b.json("-device", options{"driver": "usb-bot", "id": bot, "bus": place["bus"]})
			place = options{"driver": "scsi-cd", "bus": bot + ".0"}
		}
	case BusNVMe:
		return options{"driver": "nvme", "addr": addr}
	default:
		return options{"driver": "virtio-blk-pci", "addr": addr}
	}
	return place
}

// image describes the disk's own file. The format is stated, and so is what lies below, or
// that nothing does, whatever the image's header says.
func (b *builder) image(d Disk) options {
	image := b.layer(d.File, d.Format, d.readOnlyFile(), d.block)
	if d.Backing != nil {
		backing := b.layer(d.Backing, d.BackingFormat, true, d.blockBacking)
		if d.Below != nil {
			backing["backing"] = b.layer(d.Below, "qcow2", true, false)
		}
		image["backing"] = backing
	}
	return image
}

func (b *builder) layer(f *os.File, format string, readOnly, block bool) options {
	file := options{"driver": "file", "filename": b.fdset(f), "read-only": readOnly}
	if block {
		file["driver"] = "host_device"
	}
	image := options{"driver": format, "read-only": readOnly, "file": file}
	if format == "qcow2" {
		image["backing"] = nil
	}
	return image
}
