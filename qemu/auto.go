package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/standstill"
)

const (
	defaultKVM = "/dev/kvm"
	// settleTime is how long a machine under KVM is watched before it counts
	// as running. A KVM that cannot run the guest fails at its first
	// instruction, which is a matter of milliseconds.
	settleTime = 250 * time.Millisecond
)

// Launched is a QEMU that loads, and then waits for Start before it looks at the
// files of its config: taps may be attached meanwhile.
type Launched struct {
	config  machine.Config
	options StartOptions
	auto    bool
	noKVM   error // why it is not tried
	vm      *VM
}

// Launch starts the process for [Launched.Start]. With Accel "auto" (or "") that
// tries KVM first; if KVM cannot be opened, or QEMU dies of it or stops the guest
// within moments, it warns and starts again with TCG. The caller's files must
// therefore stay open until Start returns.
func Launch(c machine.Config, o StartOptions) (*Launched, error) {
	l := &Launched{config: c, options: o, auto: c.Accel == machine.AccelAuto || c.Accel == ""}
	if l.auto {
		l.options.Warn = once(o.Warn) // there may be two starts
		l.config, l.noKVM = o.firstTry(c)
	}
	var err error
	if l.vm, err = launchVM(l.config, l.options); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	return l, nil
}

// Start lets QEMU go on, checks over QMP that it built the machine that was asked
// for, and lets the guest run. ctx bounds the start only. A QEMU that ended early is
// reported as an *[ExitError], a bad config as a *[machine.ConfigError], an old QEMU with
// [program.ErrTooOld]. Close is not needed afterwards, whatever Start returns.
func (l *Launched) Start(ctx context.Context) (*VM, error) {
	vm := l.vm
	l.vm = nil
	err := vm.startCont(ctx, l.config, l.options)
	if l.auto && l.noKVM == nil {
		if l.noKVM, err = vm.underKVM(ctx, err); l.noKVM == nil {
			return vm, err
		}
		l.config = machine.UnderTCG(l.config)
		if vm, err = launchVM(l.config, l.options); err != nil {
			return nil, fmt.Errorf("start QEMU: %w", err)
		}
		err = vm.startCont(ctx, l.config, l.options)
	}
	if err != nil {
		return nil, err // KVM was not the problem, or not the only one
	}
	if l.noKVM != nil {
		vm.noKVM = reason(l.noKVM)
		l.options.warn("KVM does not work here, using TCG, which is slower: %s", vm.noKVM)
	}
	return vm, nil
}

// Close ends a QEMU that was not started, and waits for its end. A second call does
// nothing.
func (l *Launched) Close() error {
	vm := l.vm
	l.vm = nil
	if vm == nil {
		return nil
	}
	_ = vm.monitor.Disconnect()    // it never was connected, and so has no events to wait for
	_ = vm.proc.cmd.Process.Kill() // no error matters but "already done"
	vm.Wait()
	return errors.Join(vm.gate.Close(), vm.console.Close())
}

// StartAuto is Launch and Start.
func StartAuto(ctx context.Context, c machine.Config, o StartOptions) (*VM, error) {
	l, err := Launch(c, o)
	if err != nil {
		return nil, err
	}
	return l.Start(ctx)
}

// FirstTry returns the config that [Launch] starts first: for Accel "auto" the one for
// KVM, or the one for TCG if KVM's device cannot be opened.
func FirstTry(c machine.Config) machine.Config {
	if c.Accel == machine.AccelAuto || c.Accel == "" {
		c, _ = StartOptions{}.firstTry(c)
	}
	return c
}

// firstTry returns what to start first for Accel "auto", and why that is not KVM.
func (o StartOptions) firstTry(c machine.Config) (first machine.Config, noKVM error) {
	if noKVM := o.tryKVM(); noKVM != nil {
		return machine.UnderTCG(c), noKVM
	}
	c.Accel = machine.AccelKVM
	return c, nil
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

// startCont lets a launched QEMU go on and the guest run. With an error, the
// process is gone.
func (v *VM) startCont(ctx context.Context, c machine.Config, o StartOptions) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(o.StartTimeout, defaultStartTimeout))
	defer cancel()
	if err := v.begin(ctx, c); err != nil {
		return err
	}
	if o.Restore != nil {
		if err := o.Restore(ctx, v.monitor); err != nil {
			return fmt.Errorf("start QEMU: %w", v.abandon(ctx, c.Binary, err))
		}
	}
	if err := v.Cont(ctx); err != nil {
		err = program.Explain(v.explain(err), v.proc.stderr.String())
		return errors.Join(err, v.kill(ctx))
	}
	return nil
}

// tryKVM returns why KVM cannot be used, as far as opening its device tells.
func (o StartOptions) tryKVM() error {
	device, err := os.OpenFile(cmp.Or(o.kvm, defaultKVM), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return device.Close()
}

// underKVM judges a start under KVM by its error. noKVM says why KVM cannot be used.
func (v *VM) underKVM(ctx context.Context, started error) (noKVM, err error) {
	var died *ExitError
	switch {
	case errors.As(started, &died):
		return started, nil
	case started != nil:
		return nil, started
	}
	if noKVM := v.settle(ctx); noKVM != nil {
		return errors.Join(noKVM, v.kill(ctx)), nil
	}
	return nil, nil
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
	state, err := standstill.RunState(ctx, v.monitor)
	if err == nil && state == "internal-error" {
		return fmt.Errorf("QEMU stopped the guest: internal error%s", v.proc.stderr.Suffix())
	}
	return nil // an error here is not what KVM failing looks like
}
