package qemu

import (
	"cmp"
	"context"
	"fmt"

	"github.com/qnet-vm/qnet/qemu/machine"
)

// WithKVM returns o with another device file in the place of /dev/kvm.
func (o StartOptions) WithKVM(path string) StartOptions {
	o.kvm = path
	return o
}

// Start starts QEMU and leaves the guest paused, for tests that look at the machine
// before Cont. Accel is "kvm" or "tcg".
func Start(ctx context.Context, c machine.Config, o StartOptions) (*VM, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(o.StartTimeout, defaultStartTimeout))
	defer cancel()
	vm, err := launchVM(c, o)
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return vm, vm.begin(ctx, c)
}
