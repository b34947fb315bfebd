package qemu_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// shared returns which of the namespaces a process shares with the caller.
func shared(t *testing.T, pid int) string {
	t.Helper()
	var list []string
	for _, name := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		if own, _ := os.Readlink("/proc/self/ns/" + name); own == theirs {
			list = append(list, name)
		}
	}
	return strings.Join(list, " ")
}

// TestLayers looks at a real QEMU in each mode, by what the kernel says of it.
func TestLayers(t *testing.T) {
	lab.Require(t, lab.Root)
	binary := requireQEMU(t)
	for name, test := range map[string]struct {
		mode    sandbox.Mode
		change  func(*machine.Config)
		shared  string // namespaces
		filters string
		core    string
		report  string
	}{
		"required":      {sandbox.Required, func(*machine.Config) {}, "", "2", "0", "user 65534, filter, files (Landlock "},
		"user network":  {sandbox.Required, func(c *machine.Config) { c.NICs = []machine.NIC{{MAC: mac, User: true}} }, "net", "2", "0", "user 65534, filter, files (Landlock "},
		"own arguments": {"", func(c *machine.Config) { c.Extra = []string{"-device", "virtio-balloon-pci"} }, "net", "2", "0", "user 65534, filter, namespaces, limits"},
		"off":           {sandbox.Off, func(*machine.Config) {}, "ipc mnt net pid uts", "1", "", "user 65534"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(binary)
			test.change(&c)
			vm := start(t, c, qemu.StartOptions{Credential: nobody, Sandbox: test.mode})
			if got := shared(t, vm.PID()); got != test.shared {
				t.Errorf("it shares the namespaces %q, want %q", got, test.shared)
			}
			if status := read(t, fmt.Sprintf("/proc/%d/status", vm.PID())); !strings.Contains(status, "Seccomp_filters:\t"+test.filters+"\n") {
				t.Errorf("want %s filters: %s", test.filters, status)
			}
			limits := read(t, fmt.Sprintf("/proc/%d/limits", vm.PID()))
			for line := range strings.Lines(limits) {
				if f := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && test.core != "" && f[4] != test.core {
					t.Errorf("got %s", line)
				}
			}
			if got := vm.Confined().String(); !strings.HasPrefix(got, test.report) {
				t.Errorf("reported is %q, want %q", got, test.report)
			}
			if err := vm.Cont(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
