package machine

import (
	"os"
	"slices"
	"strings"
)

// What the firmware may boot from, in Boot.Order.
const (
	BootCDROM   = "cdrom"
	BootDisk    = "disk"
	BootNetwork = "network"
)

var bootKinds = []string{BootCDROM, BootDisk, BootNetwork}

// Boot says how the firmware chooses what it boots. It counts for nothing with a Kernel.
type Boot struct {
	Order []string // each of the kinds at most once, and nothing else boots; nil is disks, CD-ROMs, and then the network by the firmware's own choice
	Menu  bool     // the firmware waits some seconds for a key, and asks
}

// menuTime is how long the firmware waits for the key of its menu, in milliseconds.
const menuTime = "5000"

// Firmware is UEFI firmware in the machine's two flash chips. Code is opened for reading,
// Vars for reading and writing. The formats are "raw" or "qcow2".
type Firmware struct {
	Code, Vars             *os.File
	CodeFormat, VarsFormat string
	SMM                    bool // the firmware runs in system management mode, which alone may write Vars
}

func (c Config) validateFirmware() error {
	for i, kind := range c.Boot.Order {
		if !slices.Contains(bootKinds, kind) || slices.Contains(c.Boot.Order[:i], kind) {
			return badConfig("boot order", "%q, want each of %s at most once", kind, strings.Join(bootKinds, ", "))
		}
	}
	if c.UEFI == nil {
		return nil
	}
	if c.UEFI.SMM && c.machine() != "q35" && !strings.HasPrefix(c.machine(), "pc-q35-") {
		return badConfig("machine", "%q has no system management mode, which this UEFI firmware needs: use q35", c.machine())
	}
	for _, format := range []string{c.UEFI.CodeFormat, c.UEFI.VarsFormat} {
		if !slices.Contains(formats, format) {
			return badConfig("UEFI firmware", "format %q is not one of %s", format, strings.Join(formats, ", "))
		}
	}
	return nil
}

// machineOption is the value of -machine. graphics=off has the firmware talk on the serial
// console, and on a screen, too, where there is one.
func (c Config) machineOption() string {
	option := c.machine() + ",graphics=off" + c.memoryOption()
	if c.UEFI == nil {
		return option
	}
	option += ",pflash0=fw-code,pflash1=fw-vars"
	if c.UEFI.SMM {
		option += ",smm=on"
	}
	return option
}

// flash adds the two chips, and closes the one with the variables to all but system
// management mode: else the guest could enroll keys of its own.
func (b *builder) flash(f *Firmware) {
	if f == nil {
		return
	}
	code := b.layer(f.Code, f.CodeFormat, true, false)
	code["node-name"] = "fw-code"
	b.json("-blockdev", code)
	vars := b.layer(f.Vars, f.VarsFormat, false, false)
	vars["node-name"] = "fw-vars"
	b.json("-blockdev", vars)
	if f.SMM {
		b.add("-global", "driver=cfi.pflash01,property=secure,value=on")
	}
}

// bootMenu adds what -boot says. With an order, nothing else is tried.
func (b *builder) bootMenu(c Config) {
	var parts []string
	if c.Boot.Menu {
		parts = append(parts, "menu=on", "splash-time="+menuTime)
	}
	if c.Boot.Order != nil {
		parts = append(parts, "strict=on")
	}
	if c.Kernel == nil && parts != nil {
		b.add("-boot", strings.Join(parts, ","))
	}
}

// notBooted stands for a device that the firmware does not boot by our order.
const notBooted = -1

// bootIndexes returns the place of each disk and NIC in the order in which the firmware
// tries them, from 0, or notBooted. It is the only maker of such places: QEMU refuses one
// that two devices have.
func (c Config) bootIndexes() (disks, nics []int) {
	disks, nics = slices.Repeat([]int{notBooted}, len(c.Disks)), slices.Repeat([]int{notBooted}, len(c.NICs))
	if c.Kernel != nil {
		return disks, nics
	}
	order := c.Boot.Order
	if order == nil {
		order = []string{BootDisk, BootCDROM}
	}
	next := 0
	take := func(place *int) { *place, next = next, next+1 }
	for _, kind := range order {
		for i, d := range c.Disks {
			if kind == BootCDROM && d.CDROM || kind == BootDisk && !d.CDROM {
				take(&disks[i])
			}
		}
		for i := range c.NICs {
			if kind == BootNetwork {
				take(&nics[i])
			}
		}
	}
	return disks, nics
}
