package qemu_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/qemu"
)

// A machine with an agent has the port, beside its entropy device, and a guest that does not
// answer costs the time that it is given.
func TestAgentsPort(t *testing.T) {
	c := config(requireQEMU(t))
	if vm := start(t, c, qemu.StartOptions{}); vm.Agent() != nil {
		t.Error("an agent that nobody asked for")
	}
	c.Agent = true
	vm := start(t, c, qemu.StartOptions{})
	var devfn int // slot and function (PCI_DEVFN)
	if err := vm.Monitor().Execute(t.Context(), "qom-get", map[string]string{"path": "/machine/peripheral/serial0", "property": "addr"}, &devfn); err != nil || devfn != 2<<3|1 {
		t.Errorf("the port's device is at %#x, %v", devfn, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := vm.Agent().Run(ctx, "true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
