package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/memfile"
	"github.com/qnet-vm/qnet/qemu/program"
	"github.com/qnet-vm/qnet/qemu/qcow2"
)

// overlayDir is where temporary overlays grow: /tmp is often in memory.
const overlayDir = "/var/tmp"

// Prepared is a config made ready for one start, with the files opened for it.
type Prepared struct {
	Config
	own []*os.File
}

// Prepare checks c and opens what QEMU needs beyond the caller's files. The
// caller closes what is returned, error or not.
func Prepare(c Config, cred *program.Credential, warn func(string)) (*Prepared, error) {
	p := &Prepared{Config: c}
	warnings, err := Check(c)
	if err != nil {
		return p, err
	}
	for _, w := range warnings {
		warn(w)
	}
	p.Disks = slices.Clone(c.Disks)
	for i := range p.Disks {
		if err := p.prepareDisk(&p.Disks[i]); err != nil {
			return p, fmt.Errorf("%s: %w", c.Disks[i].object(i), err)
		}
	}
	for _, f := range []**os.File{&p.Kernel, &p.Initrd} {
		if err := p.makeReadable(f, cred); err != nil {
			return p, err
		}
	}
	if c.Devices.TPM != nil {
		if p.tpm, err = c.Devices.TPM(); err != nil {
			return p, err
		}
		p.Keep(p.tpm)
	}
	return p, nil
}

// GiveAgent gives QEMU the other end of its guest's agent, which Close closes.
func (p *Prepared) GiveAgent(theirs *os.File) { p.agent = p.Keep(theirs) }

// GiveGuestAgent is GiveAgent for the port of QEMU's guest agent.
func (p *Prepared) GiveGuestAgent(theirs *os.File) { p.guestAgent = p.Keep(theirs) }

// Keep adds a file, which it returns, to those that Close closes.
func (p *Prepared) Keep(f *os.File) *os.File {
	p.own = append(p.own, f)
	return f
}

// Close closes the files that were opened for the start, once QEMU has inherited them. The
// config's own files stay open. A second call does nothing.
func (p *Prepared) Close() error {
	var errs []error
	for _, f := range p.own {
		errs = append(errs, f.Close())
	}
	p.own = nil
	return errors.Join(errs...)
}

func (p *Prepared) prepareDisk(d *Disk) error {
	info, err := p.stat(d.File)
	if err != nil {
		return err
	}
	d.block = isBlock(info)
	if d.Backing != nil {
		if info, err = p.stat(d.Backing); err != nil {
			return err
		}
		d.blockBacking = isBlock(info)
	}
	if d.layered() {
		bytes, err := d.virtualSize()
		if err != nil {
			return err
		}
		overlay, err := qcow2.NewOverlay(overlayDir, bytes)
		if err != nil {
			return err
		}
		d.overlay = p.Keep(overlay)
	}
	if err := p.matchMode(&d.File, d.readOnlyFile()); err != nil {
		return err
	}
	return errors.Join(p.matchMode(&d.Backing, true), p.matchMode(&d.Below, true))
}

// matchMode reopens a file that is only read but was opened for writing: QEMU
// takes a descriptor from an fdset only if its access mode is the wanted one.
func (p *Prepared) matchMode(f **os.File, readOnly bool) error {
	if *f == nil || !readOnly {
		return nil
	}
	mode, err := accessMode(*f)
	if err != nil || mode == unix.O_RDONLY {
		return err
	}
	again, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", (*f).Fd()))
	if err != nil {
		return err
	}
	*f = p.Keep(again)
	return nil
}

// makeReadable replaces *f by a sealed copy in memory if QEMU could not read
// it. Kernel and initrd are opened by QEMU once more, by path, and that checks
// the file's permissions against QEMU's user. That user has no capability.
func (p *Prepared) makeReadable(f **os.File, cred *program.Credential) error {
	if *f == nil {
		return nil
	}
	info, err := p.stat(*f)
	if err != nil {
		return err
	}
	if cred.Reads(info) {
		return nil
	}
	sealed, err := memfile.New((*f).Name(), io.NewSectionReader(*f, 0, info.Size()))
	if err != nil {
		return err
	}
	*f = p.Keep(sealed)
	return nil
}
