package machine_test

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/qnet-vm/qnet/qemu/machine"
)

// The command line of a VM with a tap. Command only numbers the files, and so takes
// nil for them: the child's descriptors 3 and 4 are QMP and the console, 5 is the tap.
func ExampleCommand() {
	spec, err := machine.Command(machine.Config{
		Name: "web", Memory: 1 << 30, CPUs: 2, Accel: machine.AccelKVM,
		NICs: []machine.NIC{{MAC: net.HardwareAddr{0x52, 0x54, 0, 0x21, 0x34, 0x56}, Taps: []*os.File{nil}}},
	}, nil, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(spec.Files), "files")
	fmt.Println(strings.ReplaceAll(spec.String(), " -", "\n-"))
	// Output:
	// 3 files
	// -nodefaults
	// -no-user-config
	// -display none
	// -name guest=web
	// -machine q35,graphics=off
	// -accel kvm
	// -cpu host
	// -smp 2
	// -m 1024M
	// -S
	// -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
	// -object '{"id":"rng0","qom-type":"rng-builtin"}'
	// -device '{"addr":"0x02","driver":"virtio-rng-pci","id":"entropy0","rng":"rng0"}'
	// -action panic=none
	// -device '{"driver":"pvpanic","id":"panic0"}'
	// -chardev socket,id=qmp,fd=3
	// -mon chardev=qmp,mode=control
	// -chardev socket,id=console,fd=4
	// -serial chardev:console
	// -netdev '{"fd":"5","id":"net0","type":"tap"}'
	// -device '{"addr":"0x10","driver":"virtio-net-pci","id":"nic0","mac":"52:54:00:21:34:56","netdev":"net0"}'
}
