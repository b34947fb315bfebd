package qemu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/qnet-vm/qnet/qemu/standstill"
)

const (
	defaultPowerdown = 30 * time.Second
	defaultQuit      = 10 * time.Second
	killTime         = 10 * time.Second // for the kernel to end a killed process
	wokenTime        = 10 * time.Second // for a guest that slept: not all hear the button after they woke up
	askTime          = 3 * time.Second  // for QEMU to answer a command
	pressAgain       = 3 * time.Second  // QEMU drops a press that no guest listens to yet
	failedRungTime   = time.Second      // for a QEMU that is ending by itself meanwhile
)

// Names of the rungs as they are reported.
const (
	RungPowerdown = "power button"
	RungQuit      = "quit"
	RungKill      = "SIGKILL"
)

// StopOptions says how patiently to stop; the zero value is fine.
type StopOptions struct {
	Powerdown time.Duration // for the guest to shut down; 0 is 30 s
	Quit      time.Duration // for QEMU to write its disks' data and quit; 0 is 10 s
	Force     bool          // do not ask the guest

	Climb  <-chan struct{}   // each receive ends the wait on the current rung
	Report func(rung string) // called when a rung is reached, and with why the guest is not asked any more
}

func (o StopOptions) report(what string) {
	if o.Report != nil {
		o.Report(what)
	}
}

// rung is one way to end the machine, and how long it may take to work.
type rung struct {
	name  string
	wait  time.Duration
	again time.Duration // how often it acts while it waits; 0 is once
	act   func(context.Context) error
}

// Stop ends the machine. It presses the guest's power button, and again while a
// guest that boots may have missed it. Then it has QEMU quit, then sends SIGKILL: QEMU
// hears no other signal (confine.Deafen), and SIGTERM would ask the same main loop that
// did not quit. Stop returns when the process is gone. When ctx ends, the waits between
// the rungs do too. The error says that even SIGKILL did not help.
func (v *VM) Stop(ctx context.Context, o StopOptions) error {
	for _, r := range v.rungs(o) {
		if v.gone() {
			return nil
		}
		o.report(r.name)
		v.stand(ctx, r, o)
	}
	timer := time.NewTimer(killTime)
	defer timer.Stop()
	select {
	case <-v.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("stop QEMU: process %d is still there %v after SIGKILL", v.PID(), killTime)
	}
}

func (v *VM) rungs(o StopOptions) []rung {
	rungs := []rung{
		{RungQuit, cmp.Or(o.Quit, defaultQuit), 0, v.quit},
		{RungKill, 0, 0, func(context.Context) error { return v.proc.cmd.Process.Kill() }},
	}
	if o.Force || !v.running.Load() || v.guest.Ends() { // a guest that never ran, or runs no more, cannot shut down
		return rungs
	}
	wait := cmp.Or(o.Powerdown, defaultPowerdown)
	if v.guest.Sleeps() {
		wait = min(wait, wokenTime)
	}
	powerdown := rung{RungPowerdown, wait, pressAgain, v.guest.Press}
	return append([]rung{powerdown}, rungs...)
}

// quit has QEMU quit, unless it does so already, see [standstill.Guest.Ends].
func (v *VM) quit(ctx context.Context) error {
	if v.guest.Ends() {
		return nil
	}
	return v.monitor.Execute(ctx, "quit", nil, nil)
}

// stand acts on one rung and stays there until the process is gone or the next
// rung is due. A Ctrl-C is noticed also while a frozen QEMU is being asked.
func (v *VM) stand(ctx context.Context, r rung, o StopOptions) {
	acted := v.act(ctx, r)
	again := make(<-chan time.Time)
	timer := time.NewTimer(r.wait)
	defer timer.Stop()
	for {
		select {
		case err := <-acted:
			if errors.Is(err, standstill.ErrDeaf) {
				o.report(err.Error())
				return
			}
			if err != nil && !v.guest.Ends() { // or it would be killed while it writes its disks' data
				timer.Reset(min(r.wait, failedRungTime))
			}
			acted = nil
			if err == nil && r.again > 0 {
				again = time.After(r.again)
			}
			continue
		case <-again:
			acted = v.act(ctx, r)
			continue
		case <-v.done:
		case <-timer.C:
		case <-ctx.Done():
		case <-o.Climb:
		}
		return
	}
}

// act takes a rung's way, and does not wait for QEMU to answer.
func (v *VM) act(ctx context.Context, r rung) <-chan error {
	acted := make(chan error, 1)
	go func() {
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		acted <- r.act(ask)
	}()
	return acted
}

func (v *VM) gone() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

// kill ends the machine at once and waits for that, also after ctx has ended.
func (v *VM) kill(ctx context.Context) error {
	err := v.Stop(context.WithoutCancel(ctx), StopOptions{Force: true, Quit: time.Second})
	return errors.Join(err, v.console.Close())
}
