package supervisor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/lockfile"
	"github.com/qnet-vm/qnet/internal/rundir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/profiles"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
)

// options are those of a run below a directory of the test's own, whose path is short
// enough for a socket.
func options(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "qnet") //nolint:usetesting // as said
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // QEMU may be another user
		t.Fatal(err)
	}
	return Options{RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Path: os.Getenv("PATH")}
}

// script writes a program that runs a shell script.
func script(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func profile() *profiles.Profile {
	return &profiles.Profile{
		Name: "a", Path: "/p/a.toml", Allowed: []string{"/"}, Memory: 64 << 20, CPUs: 1, Accel: profiles.AccelTCG,
		NICs: []profiles.NIC{{Mode: profiles.User, Model: machine.VirtioNet}, {Mode: profiles.None, Model: machine.VirtioNet}},
	}
}

// A run that fails before QEMU runs leaves nothing below the run directory.
func TestFailedRuns(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*profiles.Profile, *Options)
		want   any
	}{
		"no-qemu":   {func(_ *profiles.Profile, o *Options) { o.QEMU = "/nowhere/qemu" }, &[]error{program.ErrNotFound, fs.ErrNotExist}},
		"no-disk":   {func(p *profiles.Profile, _ *Options) { p.Disks = []profiles.Disk{{File: "/nowhere/d", Format: "raw"}} }, new(*hardware.FileError)},
		"directory": {func(p *profiles.Profile, _ *Options) { p.Boot.Kernel = "/" }, new(*hardware.FileError)},
		"bad-name":  {func(p *profiles.Profile, _ *Options) { p.CPU = "a b" }, new(*machine.ConfigError)},
		"long-path": {func(_ *profiles.Profile, o *Options) { o.RunDir += strings.Repeat("/d", 60) }, &[]error{rundir.ErrPathTooLong}},
		"qemu-dies": {func(*profiles.Profile, *Options) {}, new(*qemu.ExitError)},
	} {
		t.Run(name, func(t *testing.T) {
			o, p := options(t), profile()
			o.QEMU = script(t, filepath.Dir(o.RunDir), "[ \"$1\" = -version ] && echo QEMU emulator version 8.2.0 && exit\nexit 1\n")
			c.change(p, &o)
			err := Run(t.Context(), p, o)
			switch want := c.want.(type) {
			case *[]error:
				if !slices.ContainsFunc(*want, func(e error) bool { return errors.Is(err, e) }) {
					t.Errorf("got %v, want one of %v", err, *want)
				}
			default:
				if err == nil || !errors.As(err, want) {
					t.Errorf("got %v, want a %T", err, want)
				}
			}
			if errors.Is(err, control.ErrNotUndone) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(o.RunDir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the run directory stays: %v", err)
			}
		})
	}
}

// A VM that has a supervisor is not started again, and its supervisor's files stay.
func TestRunTwice(t *testing.T) {
	o, p := options(t), profile()
	lock, err := lockfile.Try(rundir.VM{RunDir: o.RunDir, Name: p.Name}.Lock())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if err := Run(t.Context(), p, o); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), `run VM "a"`) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := Run(ctx, p, o); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > lockTime {
		t.Errorf("with a context that ends: %v after %s", err, time.Since(begin))
	}
}

// A signal ends a start, whatever it waits for.
func TestInterruptedStart(t *testing.T) {
	o, p := options(t), profile()
	lock, err := lockfile.Try(rundir.VM{RunDir: o.RunDir, Name: p.Name}.Lock())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	signals := make(chan os.Signal, 2)
	o.Signals = signals
	signals <- unix.SIGTERM
	signals <- unix.SIGTERM
	if err := Run(t.Context(), p, o); !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %v", err)
	}
}

// started is a session with its control socket and its log, and what it tells.
func started(t *testing.T) *session {
	t.Helper()
	s := newSession(profile(), options(t))
	s.stops.init(func() {})
	for _, step := range []func(context.Context) error{s.lockName, s.listen, func(context.Context) error { return s.makeLogDir() }} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.openNotes(); err != nil {
		t.Fatal(err)
	}
	return s
}

// An undo that fails, or panics, does not keep the others from being done. It is
// returned, in qnet.log, and told to the client that stops the VM.
func TestEndTellsAFailedUndo(t *testing.T) {
	s := started(t)
	undone := 0
	s.onClose(func(context.Context) error { undone++; return nil })
	s.onClose(func(context.Context) error { return errors.New("no rights") })
	s.onClose(func(context.Context) error { panic("a bug") })
	s.onClose(func(context.Context) error { undone++; return nil })
	told := make(chan error)
	go func() {
		told <- control.Stop(t.Context(), s.RunDir, "a", control.StopOptions{Ended: func() {}})
	}()
	for !s.stops.asked() { // the client is there
		time.Sleep(time.Millisecond)
	}
	err := s.end(t.Context())
	var undo *control.UndoError
	if !errors.As(err, &undo) || undo.VM != "a" || !strings.Contains(err.Error(), "no rights") || !strings.Contains(err.Error(), "internal error: a bug") {
		t.Errorf("got %v", err)
	}
	if undone != 2 {
		t.Errorf("%d of 2 others undone", undone)
	}
	b, _ := os.ReadFile(s.logPath("qnet.log"))
	if !strings.Contains(string(b), "not everything was undone") || !strings.Contains(string(b), "no rights") {
		t.Errorf("qnet.log: %q", b)
	}
	select {
	case err := <-told:
		t.Errorf("the client does not wait for the end of the process: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := os.Stat(s.RunDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the run directory stays: %v", err)
	}
}

// Without a failure there is nothing to tell.
func TestEnd(t *testing.T) {
	s := started(t)
	s.note(keeper.Note{Text: "slow", Remedy: "wait"})
	if err := s.end(t.Context()); err != nil {
		t.Errorf("got %v", err)
	}
	b, _ := os.ReadFile(s.logPath("qnet.log"))
	if !strings.HasSuffix(string(b), " slow; wait\n") || strings.Count(string(b), "\n") != 1 {
		t.Errorf("qnet.log: %q", b)
	}
	s.record("late") // the log is closed
}

// A line that a full disk does not take is written with the next one.
func TestRecordOnAFullDisk(t *testing.T) {
	s := started(t)
	log := s.notes
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.notes = full
	s.record("paused: no space")
	s.notes = log
	full.Close()
	s.record("goes on")
	if err := s.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(s.logPath("qnet.log"))
	if lines := strings.Split(string(b), "\n"); len(lines) != 3 || !strings.HasSuffix(lines[0], " paused: no space") || !strings.HasSuffix(lines[1], " goes on") {
		t.Errorf("qnet.log: %q", b)
	}
}

// A console's client that comes while the VM starts is sent away.
func TestConsoleOfAStart(t *testing.T) {
	s := started(t)
	var out strings.Builder
	if err := control.Console(t.Context(), s.RunDir, "a", strings.NewReader(""), &out); err != nil || out.String() != "" {
		t.Errorf("got %q, %v", &out, err)
	}
	state, err := control.Find(t.Context(), s.RunDir, "a")
	if err != nil || state.State != control.Starting || state.PID != os.Getpid() || state.Profile != "/p/a.toml" {
		t.Errorf("got %+v, %v", state, err)
	}
	if err := s.end(t.Context()); err != nil {
		t.Error(err)
	}
}

// The first request starts the shutdown ladder, each later one climbs it, and all who
// follow it learn each rung.
func TestStopper(t *testing.T) {
	cancelled, told := 0, []string(nil)
	s := stopper{tell: func(rung string) { told = append(told, rung) }}
	s.init(func() { cancelled++ })
	if s.asked() {
		t.Error("asked before")
	}
	for range 40 { // more than there are rungs
		s.ask(stopRequest{force: true})
	}
	if !s.asked() || cancelled != 1 || len(s.requests) != 1 || len(s.climb) == 0 || !(<-s.requests).force {
		t.Errorf("cancelled %d times, %d requests, %d climbs", cancelled, len(s.requests), len(s.climb))
	}
	s.report("power button")
	heard := make([][]string, 3)
	var all sync.WaitGroup
	for i := range heard {
		all.Go(func() { s.follow(func(rung string) { heard[i] = append(heard[i], rung) }) })
	}
	s.report("quit")
	s.end()
	s.end()
	all.Wait()
	for _, rungs := range heard {
		if !slices.Equal(rungs, []string{"power button", "quit"}) {
			t.Errorf("heard %q", rungs)
		}
	}
	if !slices.Equal(told, []string{"power button", "quit", ""}) {
		t.Errorf("told %q", told)
	}
}

// A signal stops the VM, and climbs the ladder if it is no copy of the request before.
func TestSignalsClimb(t *testing.T) {
	for name, c := range map[string]struct {
		sig   os.Signal
		last  time.Duration // since the request before; 0 is none
		climb bool
	}{
		"first":           {unix.SIGHUP, 0, false},
		"key":             {unix.SIGINT, time.Second, true},
		"quit key":        {unix.SIGQUIT, time.Second, true},
		"key, by sudo":    {unix.SIGINT, 100 * time.Millisecond, false},
		"SIGTERM later":   {unix.SIGTERM, 6 * time.Second, true},
		"SIGTERM by sudo": {unix.SIGTERM, time.Second, false},
		"SIGHUP later":    {unix.SIGHUP, time.Minute, false},
	} {
		var s stopper
		canceled := false
		s.init(func() { canceled = true })
		s.any, s.last = c.last > 0, time.Now().Add(-c.last)
		s.askBySignal(c.sig)
		if first := c.last == 0; first != canceled || first != (len(s.requests) == 1) || c.climb != (len(s.climb) == 1) {
			t.Errorf("%s: %d requests, climbs %d rungs", name, len(s.requests), len(s.climb))
		}
	}
}

// A real QEMU without a network needs no rights: it runs, tells its state, and ends by a
// stop or a signal.
func TestRun(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64")
	}
	for name, end := range map[string]func(o Options, signals chan<- os.Signal){
		"stop": func(o Options, _ chan<- os.Signal) {
			control.Stop(t.Context(), o.RunDir, "a", control.StopOptions{Force: true})
		},
		"signals": func(_ Options, signals chan<- os.Signal) {
			for range 3 {
				signals <- unix.SIGINT
				time.Sleep(2 * climbsAfter[unix.SIGINT]) // one that comes earlier is a copy
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			signals := make(chan os.Signal, 3)
			var rungs []string
			o.Signals, o.Rung = signals, func(rung string) { rungs = append(rungs, rung) }
			o.Started = func() {
				s, err := control.Find(t.Context(), o.RunDir, "a")
				if err != nil || s.State != control.Running || s.QEMU == 0 || len(s.NICs) != 2 || s.NICs[0].Mode != profiles.User || s.NICs[0].MAC == nil {
					t.Errorf("state %+v, %v", s, err)
				}
				go end(o, signals)
			}
			if err := Run(t.Context(), profile(), o); err != nil {
				t.Fatal(err)
			}
			if len(rungs) < 2 || rungs[len(rungs)-1] != "" {
				t.Errorf("rungs %q", rungs)
			}
			if _, err := os.Stat(o.RunDir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the run directory stays: %v", err)
			}
			if _, err := os.Stat(LogPath(o.StateDir, "a")); err != nil {
				t.Errorf("the console's log: %v", err)
			}
		})
	}
}
