package vms

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/internal/control"
	"github.com/qnet-vm/qnet/internal/disks"
	"github.com/qnet-vm/qnet/internal/hardware"
	"github.com/qnet-vm/qnet/internal/order"
	"github.com/qnet-vm/qnet/internal/place"
	"github.com/qnet-vm/qnet/internal/vmdir"
)

func (v vms) lsCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "list VMs that run, and those that keep a disk",
		Description: "SIZE is the disk that the guest sees, USED what the VM's files take on the host. \"(warm)\" behind the image\nmarks VMs that began from a guest booted for others, by run --warm.",
		Flags:       []cli.Flag{call.JSONFlag()}, Action: v.ls,
	}
}

// row is a VM in `qnet ls --json`.
type row struct {
	Name    string    `json:"name"`
	State   string    `json:"state"` // as qnet ps says it, or "stopped", "saved", "in use"
	Image   string    `json:"image,omitempty"`
	Begun   string    `json:"begun,omitempty"` // the booted guest that it began from, by run --warm
	Size    int64     `json:"size,omitempty"`  // bytes of the first disk that the VM keeps
	Used    int64     `json:"used"`            // bytes that the VM's files take
	LastRun time.Time `json:"last_run,omitzero"`
	Profile string    `json:"profile,omitempty"` // path; "" for one that is run by its image's name
	Allowed []string  `json:"allowed,omitempty"` // folders that the profile may name besides its own
	Files   string    `json:"files,omitempty"`   // directory of what it keeps; "" for a VM that keeps nothing
}

// imageInWords is the image, and that the VM began from a guest that was booted of it.
func (r row) imageInWords() string {
	if r.Begun == "" {
		return r.Image
	}
	return r.Image + " (warm)"
}

// States of VMs that qnet ps does not list.
const (
	stopped   = "stopped"
	suspended = "saved"  // by qnet suspend
	elsewhere = "in use" // by a run with another run directory, or a command that changes its files
)

func (v vms) ls(c *cli.Context) error {
	if _, err := call.Operands(c); err != nil {
		return err
	}
	states, foreign, err := v.Places.List(c.Context)
	if err != nil {
		return err
	}
	rows, err := v.rows(states)
	if err != nil {
		return err
	}
	if len(foreign) > 0 {
		v.Talk("%s", place.Foreign(foreign))
	}
	if c.Bool("json") {
		return v.JSON(rows)
	}
	return v.Table("NAME STATE IMAGE SIZE USED LAST-RUN PROFILE", func(add call.Row) {
		for _, r := range rows {
			add(r.Name, r.State, call.OrDash(r.imageInWords()), sizeOrDash(r.Size), sizeOrDash(r.Used), ago(r.LastRun), call.OrDash(r.Profile))
		}
	})
}

// rows joins the VMs that run with those that keep files.
func (v vms) rows(states []control.State) ([]row, error) {
	rows := []row{}
	err := v.User.Do(func() error {
		dirs, err := vmdir.List(v.Places.VMs)
		for _, d := range dirs {
			r, ok, err := rowOf(d)
			if err != nil {
				v.Talk("note: %v", err)
			}
			if ok {
				rows = append(rows, r)
			}
		}
		return err
	})
	for _, s := range states {
		i := slices.IndexFunc(rows, func(r row) bool { return r.Name == s.Name })
		if i < 0 {
			i = len(rows)
			rows = append(rows, row{Name: s.Name, Profile: s.Profile, Allowed: s.Allowed})
		}
		rows[i].State, rows[i].LastRun = s.Status(), s.Started
	}
	order.By(rows, func(a, b row) int { return cmp.Compare(a.Name, b.Name) })
	return rows, err
}

// rowOf describes what a VM keeps. A directory without a record is one that a run has just
// begun to make.
func rowOf(d vmdir.Dir) (r row, ok bool, err error) {
	record, err := d.Load()
	if errors.Is(err, fs.ErrNotExist) {
		if !d.Suspended() {
			return r, false, nil
		}
		err = nil // all that the VM keeps is its memory
	}
	r = row{Name: d.Name(), State: stopped, Image: record.Image, LastRun: record.LastRun, Profile: record.Profile, Allowed: record.Allowed, Files: d.Path(), Used: usedBy(d.Path())}
	switch {
	case d.Held():
		r.State = elsewhere
	case d.Suspended():
		r.State = suspended
	}
	if len(record.Bases) > 0 {
		file := record.Bases[0].Overlay
		if !filepath.IsAbs(file) {
			file = d.File(file)
		}
		r.Size = disks.SizeOf(file)
		if guest := filepath.Dir(record.Bases[0].Path); filepath.Base(filepath.Dir(guest)) == hardware.BegunDir {
			r.Begun = filepath.Base(guest)
		}
	}
	return r, true, err
}

// usedBy returns what the files in a directory take on the host, in bytes.
func usedBy(dir string) (bytes int64) {
	walk := func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Type().IsRegular() {
			bytes += disks.Used(path)
		}
		return nil
	}
	_ = filepath.WalkDir(dir, walk) // what cannot be seen counts as nothing
	return bytes
}

func sizeOrDash(bytes int64) string {
	if bytes == 0 {
		return call.OrDash("")
	}
	return disks.Size(bytes)
}

// ago says how long ago a time was, in its largest unit.
func ago(t time.Time) string {
	if t.IsZero() {
		return call.OrDash("")
	}
	d := time.Since(t)
	for _, u := range []struct {
		long time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= u.long {
			return fmt.Sprintf("%d%s ago", d/u.long, u.name)
		}
	}
	return "now"
}
