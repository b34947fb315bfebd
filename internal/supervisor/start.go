package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/qnet-vm/qnet/internal/asuser"
	"github.com/qnet-vm/qnet/internal/console"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/logfile"
	"github.com/qnet-vm/qnet/internal/nics"
	"github.com/qnet-vm/qnet/internal/vmuser"
	"github.com/qnet-vm/qnet/netsetup/journal"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/machine"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/sandbox"
)

// check opens the profile's files and checks all that can be checked before anything
// changes.
func (s *session) check(ctx context.Context) (err error) {
	s.binary, err = program.Find(s.Path, s.QEMU)
	if err = cmp.Or(err, vmuser.Credential(s.User, s.profile.Name).Check(), keeper.MayJoin(nics.NetworksOf(s.profile))); err != nil {
		return err
	}
	if err := s.clerksConfined(); err != nil {
		return err
	}
	if s.files, err = hardware.Open(ctx, s.profile, s.fileOptions()); err != nil {
		return err
	}
	s.onClose(func(context.Context) error { s.files.Close(); return s.files.Release() })
	disk, err := s.files.KeysOn(s.profile, s.state.Started)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.state.Disk = disk
	s.mu.Unlock()
	s.onClose(func(context.Context) error { s.forwards.Close(); return nil })
	if err := s.forwards.Bind(ctx); err != nil {
		return s.forwards.Explain(err)
	}
	c := s.machine()
	c.NICs = nil // they have no taps yet
	warnings, err := machine.Check(c)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		s.warn(w)
	}
	if s.salt, err = journal.LoadSalt(s.StateDir); err != nil {
		return s.unusable("state directory", s.StateDir, err)
	}
	if err := s.files.Seed(s.profile, s.salt); err != nil {
		return fmt.Errorf("prepare the first boot of VM %q: %w", s.profile.Name, err)
	}
	s.mu.Lock()
	s.state.Guest = s.files.Guest()
	s.mu.Unlock()
	return s.findSaved()
}

// clerksConfined refuses networks whose clerk cannot be confined in full, where that is required.
func (s *session) clerksConfined() error {
	for _, n := range nics.NetworksOf(s.profile) {
		if s.Sandbox != sandbox.Required || !n.Mode.HasSubnet() {
			continue
		}
		if lacks := keeper.ConfinementOf(n.Name).Lacks(); lacks != "" {
			return sandbox.Refusal(fmt.Sprintf("the clerk of network %q", n.Name), lacks, "qnet net --security")
		}
	}
	return nil
}

// fileOptions says whose the VM's files are, and where words about what takes long go.
func (s *session) fileOptions() hardware.Options {
	o := s.Files
	o.User, o.Progress, o.Warn, o.Tell = s.User, s.Progress, s.warn, s.tell
	if s.Warm != nil {
		o.Base = s.Warm.Base()
	}
	return o
}

// drop makes the process the user's behind sudo: from here on it talks to QEMU and
// carries the guest's console.
func (s *session) drop(context.Context) error {
	if err := s.User.Drop(vmuser.KVMGroup()...); err != nil {
		return err
	}
	return s.openNotes()
}

// start lets QEMU take the network, and the guest run.
func (s *session) start(ctx context.Context) error {
	s.Progress("QEMU to start")
	s.describeNICs()
	s.connect()
	launch := s.launchQEMU
	if s.qemu != nil {
		launch = s.relaunch
	}
	if err := launch(); err != nil {
		return err
	}
	asRoot := asuser.AsRoot // QEMU may have to be started again, without KVM
	if s.resumed != nil {
		// It is started once, and its state is opened with the user's rights, for which
		// asuser.User.Do would wait until AsRoot ends.
		asRoot = func(f func() error) error { return f() }
	}
	var vm *qemu.VM
	err := asRoot(func() (err error) {
		vm, err = s.qemu.Start(ctx)
		return err
	})
	if err != nil {
		return s.files.Explain(s.resumed.Failed(err))
	}
	confined := vm.Confined()
	s.mu.Lock()
	s.vm, s.state.Confined = vm, &confined
	s.mu.Unlock()
	if s.Verbose != nil {
		s.Verbose(confined.Comment())
	}
	// From here on, QEMU alone has the image locks and the taps.
	s.files.Close()
	s.closeTaps()
	s.wentOn()
	return s.started(ctx)
}

func (s *session) started(ctx context.Context) error {
	s.onClose(func(ctx context.Context) error {
		// Does nothing unless a later step of the start failed.
		return s.vm.Stop(ctx, qemu.StopOptions{Force: true})
	})
	if err := s.stewards.Start(); err != nil {
		return fmt.Errorf("serve DHCP and DNS: %w", err)
	}
	if err := s.becomeClone(ctx); err != nil {
		return err
	}
	connected, _ := s.ports()
	if err := s.forwards.Begin(ctx, s.vm, connected, s.Verbose); err != nil {
		return s.forwards.Explain(err)
	}
	log, err := logfile.Open(LogPath(s.StateDir, s.profile.Name))
	if err != nil {
		return fmt.Errorf("open console log: %w", s.unusable("state directory", s.StateDir, err))
	}
	s.onClose(func(context.Context) error { return log.Close() })
	c := console.New(s.vm.Console(), log, s.Stdout)
	c.Lost = s.outLost
	s.mu.Lock()
	s.console, s.state.State, s.state.Accel, s.state.QEMU = c, control.Running, s.vm.Accel(), s.vm.PID()
	s.mu.Unlock()
	if s.showScreen != nil {
		s.showScreen(s.vm)
	}
	s.files.WatchServing(s.profile, s.vm.Ending(), func(text, remedy string) {
		s.note(keeper.Note{Subject: s.subject(), Text: text, Remedy: remedy})
	})
	s.Progress("")
	if s.Terminal != nil {
		if err := s.giveTerminal(c); err != nil {
			return err
		}
	}
	s.Started()
	s.vm.HaveWatched(s.Watch)
	return nil
}

// giveTerminal gives the user's terminal to the guest's console.
func (s *session) giveTerminal(c *console.Console) error {
	if err := s.Terminal.Begin(); err != nil {
		return fmt.Errorf("set terminal raw: %w", err)
	}
	s.onClose(func(context.Context) error { return s.Terminal.Restore() })
	c.Out = s.Terminal
	if s.Terminal.HasKeys() {
		done := s.Terminal.FollowShell()
		s.onClose(func(context.Context) error { done(); return nil })
		go io.Copy(c.Keys(), s.Terminal.Keys(func() bool { //nolint:errcheck // ends with the process
			s.stops.ask(stopRequest{})
			return false
		}))
	}
	return nil
}

// outLost tells that stdout no longer takes what the guest writes. The guest runs on: who
// read stdout may be a `head` that has seen enough, and nobody asked for the VM's end. A
// terminal that hung up asks for that by SIGHUP.
func (s *session) outLost(err error) {
	s.note(keeper.Note{
		Subject: s.subject(), Text: fmt.Sprintf("the guest runs on, but its console cannot be copied to stdout any more: %v", err),
		Remedy: fmt.Sprintf("see qnet logs %[1]s and qnet console %[1]s", s.profile.Name),
	})
}
