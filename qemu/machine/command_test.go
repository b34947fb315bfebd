package machine_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/qemu/machine"
)

var mac = net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc}

// bare returns a machine without disk and NIC.
func bare() machine.Config {
	return machine.Config{Name: "test", Memory: 64 << 20, CPUs: 1, Accel: machine.AccelTCG}
}

// full returns a config that uses everything. Command only numbers files, so
// any will do.
func full() machine.Config {
	f := os.Stdin
	c := bare()
	c.Kernel, c.Initrd, c.Cmdline = f, f, "console=ttyS0"
	c.Disks = []machine.Disk{{File: f, Format: "raw"}, {File: f, Format: "qcow2", Snapshot: true}}
	c.NICs = []machine.NIC{
		{MAC: mac, Taps: []*os.File{f, f}, MTU: 9000},
		{MAC: mac, Taps: []*os.File{f}, Model: "e1000"},
		{MAC: mac, User: true},
	}
	c.Extra = []string{"-no-reboot"}
	return c
}

func TestCommand(t *testing.T) {
	spec, err := machine.Command(full(), os.Stdout, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{
		{"-nodefaults", "-no-user-config", "-display", "none"},
		{"-name", "guest=test"},
		{"-machine", "q35,graphics=off"},
		{"-accel", "tcg"},
		{"-cpu", "max,erms=off,fsrm=off"},
		{"-smp", "1"},
		{"-m", "64M"},
		{"-S"},
		{"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"},
		{"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"},
		{"-chardev", "socket,id=console,fd=4", "-serial", "chardev:console"},
		{"-add-fd", "fd=5,set=1"},
		{"-blockdev", `{"discard":"unmap","driver":"raw","file":{"driver":"file","filename":"/dev/fdset/1","read-only":false},"node-name":"image0","read-only":false}`},
		{"-device", `{"addr":"0x03","drive":"image0","driver":"virtio-blk-pci","id":"disk0","werror":"stop"}`},
		{"-add-fd", "fd=6,set=2", "-add-fd", "fd=7,set=3"},
		{"-blockdev", `{"backing":{"backing":null,"driver":"qcow2","file":{"driver":"file","filename":"/dev/fdset/2","read-only":true},"read-only":true},"cache":{"no-flush":true},"discard":"unmap","driver":"qcow2","file":{"driver":"file","filename":"/dev/fdset/3"},"node-name":"image1"}`},
		{"-netdev", `{"fds":"8:9","id":"net0","type":"tap"}`},
		{"-device", `{"addr":"0x10","driver":"virtio-net-pci","host_mtu":9000,"id":"nic0","mac":"52:54:00:aa:bb:cc","mq":true,"netdev":"net0","romfile":"","vectors":6}`},
		{"-netdev", `{"fd":"10","id":"net1","type":"tap"}`},
		{"-device", `{"addr":"0x11","driver":"e1000","id":"nic1","mac":"52:54:00:aa:bb:cc","netdev":"net1","romfile":""}`},
		{"-netdev", `{"id":"net2","type":"user"}`},
		{"-kernel", "/proc/self/fd/11", "-initrd", "/proc/self/fd/12", "-append", "console=ttyS0", "-no-reboot"},
	} {
		if !contains(spec.Args, want) {
			t.Errorf("no %q in\n%s", want, spec)
		}
	}
	if got, want := len(spec.Files), 10; got != want {
		t.Errorf("got %d files, want %d", got, want)
	}
	if spec.Files[0] != os.Stdout || spec.Files[1] != os.Stderr {
		t.Error("QMP and console are not the first files")
	}
}

// TestCommandCPU: only the default is freed of what slows it.
func TestCommandCPU(t *testing.T) {
	for _, c := range []struct{ accel, model, want string }{
		{machine.AccelTCG, "", "max,erms=off,fsrm=off"},
		{machine.AccelTCG, "max", "max"},
		{machine.AccelTCG, "qemu64", "qemu64"},
		{machine.AccelKVM, "", "host"},
		{machine.AccelKVM, "max", "max"},
	} {
		config := full()
		config.Accel, config.CPU = c.accel, c.model
		spec, err := machine.Command(config, os.Stdout, os.Stderr)
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.Index(spec.Args, "-cpu"); spec.Args[i+1] != c.want {
			t.Errorf("cpu %q under %s: got %s, want %s", c.model, c.accel, spec.Args[i+1], c.want)
		}
	}
}

func TestVHost(t *testing.T) {
	f := os.Stdin
	c := bare()
	c.NICs = []machine.NIC{
		{MAC: mac, Taps: []*os.File{f}, VHost: []*os.File{f}},
		{MAC: mac, Taps: []*os.File{f, f}, VHost: []*os.File{f, f}},
	}
	spec, err := machine.Command(c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{
		{"-netdev", `{"fd":"5","id":"net0","type":"tap","vhost":true,"vhostfd":"6"}`},
		{"-netdev", `{"fds":"7:8","id":"net1","type":"tap","vhost":true,"vhostfds":"9:10"}`},
	} {
		if !contains(spec.Args, want) {
			t.Errorf("no %q in\n%s", want, spec)
		}
	}
}

func contains(args, group []string) bool {
	for i := range args {
		if len(args)-i >= len(group) && slices.Equal(args[i:i+len(group)], group) {
			return true
		}
	}
	return false
}

func TestCommandForPlanNeedsNoFiles(t *testing.T) {
	c := bare()
	c.Disks = []machine.Disk{{Format: "raw", Snapshot: true}}
	c.NICs = []machine.NIC{{MAC: mac, Taps: []*os.File{nil}}}
	spec, err := machine.Command(c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !contains(spec.Args, []string{"-netdev", `{"fd":"7","id":"net0","type":"tap"}`}) {
		t.Errorf("got %s", spec)
	}
}

func TestCommandRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*machine.Config)
		want   string
	}{
		"no-name":              {func(c *machine.Config) { c.Name = "" }, "name"},
		"name-with-comma":      {func(c *machine.Config) { c.Name = "a,process=sshd" }, "name"},
		"name-with-newline":    {func(c *machine.Config) { c.Name = "a\nb" }, "name"},
		"long-name":            {func(c *machine.Config) { c.Name = strings.Repeat("a", 200) }, "name"},
		"cpu-help":             {func(c *machine.Config) { c.CPU = "help" }, "CPU model"},
		"machine-option":       {func(c *machine.Config) { c.Machine = "q35,kernel=/etc/passwd" }, "machine"},
		"accel":                {func(c *machine.Config) { c.Accel = "xen" }, "accelerator"},
		"no-memory":            {func(c *machine.Config) { c.Memory = 0 }, "memory"},
		"no-cpu":               {func(c *machine.Config) { c.CPUs = 0 }, "CPUs"},
		"initrd-only":          {func(c *machine.Config) { c.Kernel, c.Cmdline = nil, "" }, "initrd"},
		"cmdline-only":         {func(c *machine.Config) { c.Kernel, c.Initrd = nil, nil }, "kernel command line"},
		"nul-in-cmdline":       {func(c *machine.Config) { c.Cmdline = "a\x00b" }, "kernel command line"},
		"nul-in-extra":         {func(c *machine.Config) { c.Extra = []string{"\x00"} }, "QEMU argument"},
		"vmdk":                 {func(c *machine.Config) { c.Disks[0].Format = "vmdk" }, "disk"},
		"no-format":            {func(c *machine.Config) { c.Disks[0].Format = "" }, "disk"},
		"too-many-disks":       {func(c *machine.Config) { c.Disks = make([]machine.Disk, 14) }, "disks"},
		"too-many-nics":        {func(c *machine.Config) { c.NICs = make([]machine.NIC, 16) }, "NICs"},
		"model":                {func(c *machine.Config) { c.NICs[0].Model = "vfio-pci" }, "NIC 0"},
		"multicast-mac":        {func(c *machine.Config) { c.NICs[1].MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} }, "NIC 1"},
		"no-mac":               {func(c *machine.Config) { c.NICs[1].MAC = nil }, "NIC 1"},
		"neither-tap-nor-user": {func(c *machine.Config) { c.NICs[2].User = false }, "NIC 2"},
		"both-tap-and-user":    {func(c *machine.Config) { c.NICs[0].User = true }, "NIC 0"},
		"vhost-of-e1000":       {func(c *machine.Config) { c.NICs[1].VHost = make([]*os.File, 1) }, "NIC 1"},
		"too-few-vhost":        {func(c *machine.Config) { c.NICs[0].VHost = make([]*os.File, 1) }, "NIC 0"},
		"mtu-of-e1000":         {func(c *machine.Config) { c.NICs[1].MTU = 9000 }, "NIC 1"},
		"mtu-small":            {func(c *machine.Config) { c.NICs[0].MTU = 67 }, "NIC 0"},
		"mtu-large":            {func(c *machine.Config) { c.NICs[0].MTU = 65536 }, "NIC 0"},
		"queues-of-e1000":      {func(c *machine.Config) { c.NICs[1].Taps = make([]*os.File, 2) }, "NIC 1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := full()
			test.change(&c)
			_, err := machine.Command(c, nil, nil)
			var bad *machine.ConfigError
			if !errors.As(err, &bad) || !strings.HasPrefix(bad.Object, test.want) {
				t.Errorf("got %v, want an error about %s", err, test.want)
			}
		})
	}
}

func TestSpecStringIsShellSafe(t *testing.T) {
	want := []string{"", "plain", "a b", "$(touch x)", "it's", "{\"a\":1}", "new\nline", "*", "~", "-append", "\\", "é\xff"}
	out, err := exec.Command("sh", "-c", "printf '%s\\0' "+machine.Spec{Args: want}.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzCommand: text in any field either is refused or stays in its place. The
// number of arguments never changes, JSON stays JSON, and what may be free
// text arrives unchanged.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		"x,script=/path",                // tap ifname
		"s,logfile=/etc/x,logappend=on", // chardev path
		"a.img,readonly=on", "fat:/dir", // drive file
		"json:{\"driver\":\"file\"}",        // pseudo protocol
		"\"}\n[chardev \"x\"]", "a/b", "..", // section, path
		"help", "?", "none", "", "-S", "--", "\x00", "\xff\xfe", "\u202e", "q35", "max", "qcow2", "e1000",
	} {
		f.Add(s, 0)
		f.Add(s, 3)
	}
	base, err := machine.Command(full(), nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string, field int) {
		c := full()
		fields := []*string{&c.Name, &c.CPU, &c.Machine, &c.Cmdline, &c.Accel, &c.Disks[0].Format, &c.NICs[1].Model, &c.Extra[0]}
		*fields[uint(field)%uint(len(fields))] = s
		spec, err := machine.Command(c, nil, nil)
		if err != nil {
			return
		}
		if spec.Args[len(spec.Args)-1] != c.Extra[0] || !contains(spec.Args, []string{"-append", c.Cmdline}) {
			t.Errorf("free text changed: %q", spec.Args)
		}
		// Naming qcow2 adds "backing" inside JSON, never an argument.
		if len(spec.Args) != len(base.Args) || len(spec.Files) != len(base.Files) {
			t.Fatalf("%q gives %d arguments, want %d", s, len(spec.Args), len(base.Args))
		}
		for i, arg := range spec.Args[:len(spec.Args)-1] {
			isJSON := slices.Contains([]string{"-blockdev", "-device", "-netdev", "-object"}, arg)
			if isJSON && base.Args[i] == arg && !json.Valid([]byte(spec.Args[i+1])) {
				t.Errorf("not JSON: %q", spec.Args[i+1])
			}
			if base.Args[i][0] == '-' && base.Args[i] != arg {
				t.Errorf("got %q in the place of %q", arg, base.Args[i])
			}
			if base.Args[max(i-1, 0)] == "-name" && strings.ContainsAny(arg, ",\n\"/") {
				t.Errorf("got name %q", arg)
			}
		}
	})
}
