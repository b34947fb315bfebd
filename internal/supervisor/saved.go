package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/qnet-vm/qnet/internal/saved"
	"github.com/qnet-vm/qnet/internal/vmdir"
	"github.com/qnet-vm/qnet/netsetup/keeper"
	"github.com/qnet-vm/qnet/qemu"
	"github.com/qnet-vm/qnet/qemu/standstill"
	"github.com/qnet-vm/qnet/qemu/states"
)

// loadTime bounds the load of a guest's memory.
const loadTime = 10 * time.Minute

// savedPlace is where the VM's state is kept.
func (s *session) savedPlace() (saved.Place, error) {
	dir, err := vmdir.New(s.Files.VMs, s.profile.Name)
	return saved.Place{Dir: dir, User: s.User}, err
}

// findSaved looks whether the VM was suspended, and keeps an eye on its images for when it
// will be.
func (s *session) findSaved() error {
	images := saved.Images(s.machine())
	pins, err := saved.Pin(images)
	if err != nil {
		return err
	}
	s.images = pins
	s.onClose(func(context.Context) error {
		for _, f := range pins {
			f.Close()
		}
		return nil
	})
	place, err := s.savedPlace()
	if err != nil {
		return nil //nolint:nilerr // without a place nothing was saved
	}
	if s.files.OnBase() {
		s.resumed, err = saved.Shared(s.Warm.Place)
		return errors.Join(err, place.Discard())
	}
	if s.Fresh {
		return place.Discard()
	}
	s.resumed, err = saved.Find(place, images)
	return err
}

// wentOn removes what a guest went on from.
func (s *session) wentOn() {
	if err := s.resumed.Done(); err != nil {
		s.note(keeper.Note{Subject: s.subject(), Text: fmt.Sprintf("what was saved of it stays: %v", err)})
	}
}

// goesOn tells a guest that was suspended that time has passed: its DHCP client asks again
// when the cables of its NICs were pulled.
func (s *session) goesOn(ctx context.Context) {
	if s.ForOthers {
		s.failed = s.bootForOthers(ctx)
		return
	}
	if s.resumed == nil || s.files.OnBase() {
		return
	}
	set := make(chan error, 1)
	go func() { set <- saved.SetClock(ctx, s.vm.Agent()) }()
	s.replugAll(ctx)
	if err := <-set; err != nil {
		s.record(err.Error())
	}
}

// replugAll pulls and plugs the cables of all NICs, and has the guest show its addresses.
func (s *session) replugAll(ctx context.Context) {
	s.replug(ctx, s.allNICs())
	var addresses []netip.Addr
	for _, n := range s.State().NICs {
		addresses = append(addresses, n.Address)
	}
	saved.AskForSigns(ctx, addresses)
}

// suspend saves the guest and ends the VM.
func suspend(ctx context.Context, s *session, vm *qemu.VM, _ json.RawMessage, tell func(string)) (any, error) {
	place, err := s.savedPlace()
	if err != nil {
		return nil, err
	}
	if why := saved.Cannot(s.profile, vm.Config()); why != "" {
		return nil, errors.New(why)
	}
	ran, err := vm.Guest().Hold(ctx, standstill.ForSaving)
	if err != nil {
		return nil, err
	}
	tell("its memory to be saved")
	r, err := s.save(ctx, vm, place)
	if err != nil {
		if ran {
			_, again := vm.Guest().Release(ctx)
			err = errors.Join(err, again)
		}
		return nil, err
	}
	s.stops.report(fmt.Sprintf("saved, %d MiB; qnet resume %s goes on from there", r.Bytes>>20, s.profile.Name))
	s.Stop(true, 0)
	return map[string]int64{"bytes": r.Bytes}, nil
}

func (s *session) save(ctx context.Context, vm *qemu.VM, place saved.Place) (saved.Record, error) {
	c := vm.Config()
	if s.ForOthers {
		c = saved.Anyone(c)
	}
	m, err := saved.Of(ctx, vm.Monitor(), saved.VersionOf(vm.Monitor()), c)
	if err != nil {
		return saved.Record{}, err
	}
	r := saved.Record{Profile: s.profile.Path, Allowed: s.profile.Allowed, Extra: s.Extra, Machine: m}
	return place.Save(ctx, r, s.images, func(ctx context.Context, f *os.File) error { return states.Save(ctx, vm.Monitor(), f) })
}
