package qemu_test

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/qnet-vm/qnet/qemu"
)

// rungs returns options with short waits, and where the rungs are noted.
func rungs() (qemu.StopOptions, *[]string) {
	var climbed []string
	return qemu.StopOptions{
		Powerdown: 50 * time.Millisecond, Quit: 50 * time.Millisecond,
		Report: func(rung string) { climbed = append(climbed, rung) },
	}, &climbed
}

func stubborn(t *testing.T, mode string) *qemu.VM {
	t.Helper()
	vm := start(t, config(fake(t, mode)), qemu.StartOptions{})
	if err := vm.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestStopClimbsToTheTop(t *testing.T) {
	vm := stubborn(t, "stubborn")
	o, climbed := rungs()
	if err := vm.Stop(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if want := []string{qemu.RungPowerdown, qemu.RungQuit, qemu.RungKill}; !slices.Equal(*climbed, want) {
		t.Errorf("got %v, want %v", *climbed, want)
	}
	if s := vm.Wait(); s.Signal != syscall.SIGKILL {
		t.Errorf("got %+v, want SIGKILL", s)
	}
	if err := vm.Stop(t.Context(), o); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

func TestStopStopsClimbing(t *testing.T) {
	vm := stubborn(t, "good")
	o, climbed := rungs()
	o.Quit = time.Minute // it will, but a race-built fake takes a second
	if err := vm.Stop(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if want := []string{qemu.RungPowerdown, qemu.RungQuit}; !slices.Equal(*climbed, want) {
		t.Errorf("got %v, want %v", *climbed, want)
	}
}

// A QEMU that said that it ends, and does not, is not told to quit, and killed.
func TestStopOfAnEndlessEnd(t *testing.T) {
	vm := stubborn(t, "endless-end")
	o, climbed := rungs()
	o.Powerdown = 2 * time.Second
	if err := vm.Stop(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if want := []string{qemu.RungPowerdown, qemu.RungQuit, qemu.RungKill}; !slices.Equal(*climbed, want) {
		t.Errorf("got %v, want %v", *climbed, want)
	}
	if s := vm.Wait(); s.Signal != syscall.SIGKILL {
		t.Errorf("got %+v, want SIGKILL", s)
	}
}

func TestForceDoesNotAskTheGuest(t *testing.T) {
	vm := stubborn(t, "good")
	o, climbed := rungs()
	o.Quit = time.Minute // it will, but a race-built fake takes a second
	o.Force = true
	if err := vm.Stop(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if want := []string{qemu.RungQuit}; !slices.Equal(*climbed, want) {
		t.Errorf("got %v, want %v", *climbed, want)
	}
}

func TestClimbEndsTheWait(t *testing.T) {
	vm := stubborn(t, "stubborn")
	o, climbed := rungs()
	o.Powerdown, o.Quit = time.Hour, time.Hour
	climb := make(chan struct{})
	o.Climb = climb
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case climb <- struct{}{}:
			case <-stop:
				return
			}
		}
	}()
	if err := vm.Stop(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if len(*climbed) != 3 {
		t.Errorf("got %v, want all rungs", *climbed)
	}
}

func TestCancelledStopStillStops(t *testing.T) {
	vm := stubborn(t, "stubborn")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o, _ := rungs()
	o.Powerdown = time.Hour
	if err := vm.Stop(ctx, o); err != nil {
		t.Fatal(err)
	}
	<-vm.Done()
}

func TestStopOfFrozenQEMU(t *testing.T) {
	vm := start(t, config(requireQEMU(t)), qemu.StartOptions{})
	if err := syscall.Kill(vm.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	o, climbed := rungs()
	if err := vm.Stop(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := (*climbed)[len(*climbed)-1]; got != qemu.RungKill {
		t.Errorf("got %s last, want SIGKILL", got)
	}
}
