package machine

import (
	"os"
	"slices"
	"strings"
)

// Devices are what a machine may have besides its disks and NICs.
type Devices struct {
	// TPM returns swtpm's end of a new connection, for one start of QEMU, which closes the
	// file. It is called by Prepare. nil is no TPM.
	TPM func() (*os.File, error)
	// Screen adds a VGA card and an absolute pointer, and a VNC server that listens nowhere:
	// it gets its clients by QMP's add_client.
	Screen bool
	Sound  bool     // an HD audio card; a VNC client hears it
	GDB    *os.File // a socket that listens for gdb; nil without one

	Balloon  bool   // returns memory that the guest does not use to the host
	RTC      string // what the clock shows: "utc", which "" is, or "localtime"
	Watchdog string // what it does when the guest feeds it no more: one of watchdogs; "" or "none" is no watchdog
}

var watchdogs = []string{"", "none", "reset", "poweroff", "pause"}

func (d Devices) validate() error {
	switch {
	case !slices.Contains([]string{"", "utc", "localtime"}, d.RTC):
		return badConfig("clock", "%q is not one of utc, localtime", d.RTC)
	case !slices.Contains(watchdogs, d.Watchdog):
		return badConfig("watchdog", "%q is not one of %s", d.Watchdog, strings.Join(watchdogs[1:], ", "))
	}
	return nil
}

// display is the value of -display. With "vnc=none" QEMU has a VNC server that listens
// nowhere (vnc_display_open in ui/vnc.c).
func (d Devices) display() string {
	switch {
	case d.Screen && d.Sound:
		return "vnc=none,audiodev=sound0"
	case d.Screen:
		return "vnc=none"
	}
	return "none"
}

// devices adds them behind all that has a slot of its own: QEMU gives them slots that are
// free. tpm is QEMU's end of the connection to swtpm.
func (b *builder) devices(d Devices, tpm *os.File) {
	if d.TPM != nil {
		b.add("-chardev", "socket,id=tpm,fd="+b.file(tpm), "-tpmdev", "emulator,id=tpm0,chardev=tpm")
		b.json("-device", options{"driver": "tpm-crb", "id": "tpmdevice0", "tpmdev": "tpm0"})
	}
	if d.Screen {
		b.json("-device", options{"driver": "VGA", "id": "screen0"})
		b.json("-device", options{"driver": "qemu-xhci", "id": "input0"})
		b.json("-device", options{"driver": "usb-tablet", "id": "pointer0", "bus": "input0.0"})
	}
	if d.Sound {
		b.json("-audiodev", options{"driver": "none", "id": "sound0"})
		b.json("-device", options{"driver": "intel-hda", "id": "hda0"})
		b.json("-device", options{"driver": "hda-duplex", "bus": "hda0.0", "audiodev": "sound0"})
	}
	if d.Balloon {
		b.json("-device", options{"driver": "virtio-balloon-pci", "id": "balloon0", "free-page-reporting": true, "deflate-on-oom": true})
	}
	if d.RTC == "localtime" {
		b.add("-rtc", "base=localtime")
	}
	if d.Watchdog != "" && d.Watchdog != "none" {
		b.add("-action", "watchdog="+d.Watchdog)
		b.json("-device", options{"driver": "i6300esb", "id": "watchdog0"})
	}
	if d.GDB != nil {
		b.add("-chardev", "socket,id=gdb,server=on,wait=off,fd="+b.file(d.GDB), "-gdb", "chardev:gdb")
	}
}
