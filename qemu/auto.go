package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	defaultKVM = "/dev/kvm"
	// settleTime is how long a machine under KVM is watched before it counts
	// as running. A KVM that cannot run the guest fails at its first
	// instruction, which is a matter of milliseconds.
	settleTime = 250 * time.Millisecond
)

// StartAuto starts the machine and lets the guest run. With Accel "auto" (or
// "") it tries KVM first; if KVM cannot be opened, or QEMU dies of it or stops
// the guest within moments, it warns and starts again with TCG. The caller's
// files must therefore stay open until StartAuto returns.
func StartAuto(ctx context.Context, c Config, o StartOptions) (*VM, error) {
	if c.Accel != AccelAuto && c.Accel != "" {
		return startCont(ctx, c, o)
	}
	o.Warn = once(o.Warn) // there may be two starts
	vm, noKVM, err := startKVM(ctx, c, o)
	if noKVM == nil {
		return vm, err
	}
	c.Accel = AccelTCG
	if c.CPU == "host" {
		c.CPU = "" // exists under KVM only
	}
	vm, err = startCont(ctx, c, o)
	if err != nil {
		return nil, err // KVM was not the problem, or not the only one
	}
	o.warn("KVM does not work here, using TCG, which is slower: %s", reason(noKVM))
	return vm, nil
}

// once passes on every warning once.
func once(warn func(string)) func(string) {
	if warn == nil {
		return nil
	}
	seen := make(map[string]bool)
	return func(w string) {
		if !seen[w] {
			seen[w] = true
			warn(w)
		}
	}
}

// reason returns the first thing a dead QEMU said that is not a warning, which
// tends to be the cause of the rest; or the error as it is.
func reason(err error) string {
	var died *ExitError
	if !errors.As(err, &died) {
		return err.Error()
	}
	for line := range strings.Lines(died.Status.Stderr) {
		if !strings.Contains(line, "warning:") {
			return strings.TrimSpace(line)
		}
	}
	return died.Error()
}

// startCont is Start and Cont.
func startCont(ctx context.Context, c Config, o StartOptions) (*VM, error) {
	vm, err := Start(ctx, c, o)
	if err != nil {
		return nil, err
	}
	if err := vm.Cont(ctx); err != nil {
		return nil, errors.Join(vm.explain(err), vm.kill())
	}
	return vm, nil
}

// startKVM returns either a machine that runs under KVM, an error that has
// nothing to do with KVM, or why KVM is out of the question.
func startKVM(ctx context.Context, c Config, o StartOptions) (vm *VM, noKVM, err error) {
	device, err := os.OpenFile(cmp.Or(o.kvm, defaultKVM), os.O_RDWR, 0)
	if err != nil {
		return nil, err, nil
	}
	if err := device.Close(); err != nil {
		return nil, nil, err
	}
	c.Accel = AccelKVM
	vm, err = startCont(ctx, c, o)
	var died *ExitError
	switch {
	case errors.As(err, &died):
		return nil, err, nil
	case err != nil:
		return nil, nil, err
	}
	if noKVM := vm.settle(ctx); noKVM != nil {
		return nil, errors.Join(noKVM, vm.kill()), nil
	}
	return vm, nil, nil
}

// settle returns an error if the machine shows within moments that KVM cannot
// run it. A guest that shuts down that fast has run.
func (v *VM) settle(ctx context.Context) error {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-v.done:
		if s := v.Wait(); !s.GuestShutdown {
			return s.Err()
		}
		return nil
	case <-ctx.Done():
		return nil // the caller will stop it
	case <-timer.C:
	}
	var status struct {
		Status string `json:"status"`
	}
	err := v.monitor.Execute(ctx, "query-status", nil, &status)
	if err == nil && status.Status == "internal-error" {
		return fmt.Errorf("QEMU stopped the guest: internal error%s", v.proc.stderr.suffix())
	}
	return nil // an error here is not what KVM failing looks like
}
