package machine_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/qemu/machine"
)

func uefi(smm bool) *machine.Firmware {
	return &machine.Firmware{Code: os.Stdin, Vars: os.Stdin, CodeFormat: "raw", VarsFormat: "raw", SMM: smm}
}

func TestFirmwareAndDevices(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*machine.Config)
		want   [][]string
		not    []string
	}{
		"bios": {func(*machine.Config) {}, [][]string{{"-machine", "q35,graphics=off"}, {"-display", "none"}}, []string{"pflash", "-boot", "VGA", "usb", "tpm", "-rtc", "watchdog=", "-gdb", "audio", "balloon"}},
		"uefi": {func(c *machine.Config) { c.UEFI = uefi(false) }, [][]string{
			{"-machine", "q35,graphics=off,pflash0=fw-code,pflash1=fw-vars"},
			{"-add-fd", "fd=5,set=1"},
			{"-blockdev", `{"driver":"raw","file":{"driver":"file","filename":"/dev/fdset/1","read-only":true},"node-name":"fw-code","read-only":true}`},
			{"-blockdev", `{"driver":"raw","file":{"driver":"file","filename":"/dev/fdset/2","read-only":false},"node-name":"fw-vars","read-only":false}`},
		}, []string{"smm", "secure"}},
		"secure": {func(c *machine.Config) { c.UEFI = uefi(true) }, [][]string{
			{"-machine", "q35,graphics=off,pflash0=fw-code,pflash1=fw-vars,smm=on"}, {"-global", "driver=cfi.pflash01,property=secure,value=on"},
		}, nil},
		"qcow2": {func(c *machine.Config) { c.UEFI = uefi(false); c.UEFI.VarsFormat = "qcow2" }, [][]string{
			{"-blockdev", `{"backing":null,"driver":"qcow2","file":{"driver":"file","filename":"/dev/fdset/2","read-only":false},"node-name":"fw-vars","read-only":false}`},
		}, nil},
		"tpm": {func(c *machine.Config) { c.Devices.TPM = func() (*os.File, error) { return nil, nil } }, [][]string{
			{"-chardev", "socket,id=tpm,fd=5", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", `{"driver":"tpm-crb","id":"tpmdevice0","tpmdev":"tpm0"}`},
		}, nil},
		"screen": {func(c *machine.Config) { c.Devices.Screen = true }, [][]string{
			{"-display", "vnc=none"}, {"-device", `{"driver":"VGA","id":"screen0"}`}, {"-device", `{"bus":"input0.0","driver":"usb-tablet","id":"pointer0"}`},
		}, []string{"audio"}},
		"sound": {func(c *machine.Config) { c.Devices.Sound, c.Devices.Screen = true, true }, [][]string{
			{"-display", "vnc=none,audiodev=sound0"}, {"-audiodev", `{"driver":"none","id":"sound0"}`}, {"-device", `{"audiodev":"sound0","bus":"hda0.0","driver":"hda-duplex"}`},
		}, nil},
		"rest": {func(c *machine.Config) {
			c.Devices = machine.Devices{Balloon: true, RTC: "localtime", Watchdog: "pause", GDB: os.Stdin}
		}, [][]string{
			{"-device", `{"deflate-on-oom":true,"driver":"virtio-balloon-pci","free-page-reporting":true,"id":"balloon0"}`},
			{"-rtc", "base=localtime"},
			{"-action", "watchdog=pause", "-device", `{"driver":"i6300esb","id":"watchdog0"}`},
			{"-chardev", "socket,id=gdb,server=on,wait=off,fd=5", "-gdb", "chardev:gdb"},
		}, nil},
		"menu":       {func(c *machine.Config) { c.Boot = machine.Boot{Menu: true} }, [][]string{{"-boot", "menu=on,splash-time=5000"}}, []string{"strict"}},
		"with order": {func(c *machine.Config) { c.Boot = machine.Boot{Menu: true, Order: []string{"disk"}} }, [][]string{{"-boot", "menu=on,splash-time=5000,strict=on"}}, nil},
		"kernel": {func(c *machine.Config) {
			c.Kernel, c.Boot = os.Stdin, machine.Boot{Menu: true, Order: []string{"disk"}}
		}, nil, []string{"-boot", "bootindex"}},
	} {
		c := bare()
		test.change(&c)
		spec, err := machine.Command(c, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range test.want {
			if !contains(spec.Args, want) {
				t.Errorf("%s: no %q in\n%s", name, want, spec)
			}
		}
		for _, not := range test.not {
			if strings.Contains(spec.String(), not) {
				t.Errorf("%s: %q in\n%s", name, not, spec)
			}
		}
	}
}

// Each device gets its own place in the order; without an order the network has none.
func TestBootOrder(t *testing.T) {
	for name, test := range map[string]struct {
		order             []string
		first, second     string // places of two disks
		cdrom, nic, other string
	}{
		"default":         {nil, `"bootindex":0`, `"bootindex":1`, `"bootindex":2`, "", ""},
		"install":         {[]string{"cdrom", "disk", "network"}, `"bootindex":1`, `"bootindex":2`, `"bootindex":0`, `"bootindex":3`, `"bootindex":4`},
		"network":         {[]string{"network"}, "", "", "", `"bootindex":0`, `"bootindex":1`},
		"network, CD-ROM": {[]string{"network", "cdrom"}, "", "", `"bootindex":2`, `"bootindex":0`, `"bootindex":1`},
	} {
		c := bare()
		f := os.Stdin
		c.Disks = []machine.Disk{{File: f, Format: "raw"}, {File: f, Format: "raw", CDROM: true, ReadOnly: true, Bus: "sata"}, {File: f, Format: "raw"}}
		c.NICs = []machine.NIC{{MAC: mac, User: true}, {MAC: mac, User: true}}
		c.Boot.Order = test.order
		spec, err := machine.Command(c, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range map[string]string{"disk0": test.first, "disk2": test.second, "disk1": test.cdrom, "nic0": test.nic, "nic1": test.other} {
			for _, arg := range spec.Args {
				if !strings.Contains(arg, `"id":"`+id+`"`) {
					continue
				}
				if !strings.Contains(arg, want+",") || want == "" && strings.Contains(arg, "bootindex") {
					t.Errorf("%s: %s is %s, want %q", name, id, arg, want)
				}
			}
		}
	}
}

func TestFirmwareRefuses(t *testing.T) {
	for want, change := range map[string]func(*machine.Config){
		"system management mode": func(c *machine.Config) { c.Machine, c.UEFI = "pc", uefi(true) },
		"UEFI firmware: format":  func(c *machine.Config) { c.UEFI = uefi(false); c.UEFI.CodeFormat = "vmdk" },
		"boot order":             func(c *machine.Config) { c.Boot.Order = []string{"floppy"} },
		"at most once":           func(c *machine.Config) { c.Boot.Order = []string{"disk", "disk"} },
		"clock":                  func(c *machine.Config) { c.Devices.RTC = "x" },
		"watchdog":               func(c *machine.Config) { c.Devices.Watchdog = "x" },
	} {
		c := bare()
		change(&c)
		_, err := machine.Command(c, nil, nil)
		var bad *machine.ConfigError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}
