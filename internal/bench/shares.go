package main

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
)

// filesScript measures one folder in a guest, see there.
//
//go:embed files.py
var filesScript string

// p9 is the tag of the folder that the guest has by 9p.
const p9 = "p9"

// shares measures a folder that a Debian has by virtiofs, against the same folder by 9p and
// against the guest's own disk. Only here QEMU gets the folder for 9p, by arguments behind
// "--": it opens the files itself, so the run goes without those layers that keep it from
// files.
func (b *bench) shares() error {
	folder := filepath.Join(b.Dir, "shared")
	// QEMU is a user of the VM's own, and virtiofsd is root.
	if err := errors.Join(os.Mkdir(folder, 0o777), os.Chmod(folder, 0o777)); err != nil {
		return err
	}
	const vm = "sh"
	d := guestfiles.Debian{Rest: "[[share]]\npath = \"shared\"\nmount = \"/virtiofs\"\n"}
	with9p, err := b.whole(&d)
	if err != nil {
		return err
	}
	profile, err := b.debianProfile(vm, d)
	if err != nil {
		return err
	}
	args := []string{"run", "-d", profile}
	if with9p {
		args = append(args, "--", "-fsdev", "local,id="+p9+",security_model=none,path="+folder, "-device", "virtio-9p-pci,fsdev="+p9+",mount_tag="+p9)
	}
	defer b.removeVM(vm)
	if _, err := b.untilShell(vm, args...); err != nil {
		return err
	}
	if err := b.besideDisk(vm); err != nil || !with9p {
		return err
	}
	return b.beside9p(vm)
}

// whole gives the Debian a kernel that has 9p, and reports whether there is one.
func (b *bench) whole(d *guestfiles.Debian) (bool, error) {
	dir := filepath.Join(b.Cache, "whole")
	first, err := os.ReadFile(filepath.Join(dir, "first.gz"))
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(b.Talk, "no kernel with 9p (make whole): the rows beside 9p are left out")
		return false, nil
	}
	if err != nil {
		return false, err
	}
	initrd, err := os.ReadFile(filepath.Join(b.Cache, "debian", "initrd.img"))
	if err != nil {
		return false, err
	}
	d.Kernel, d.Initrd, d.Cmdline = filepath.Join(dir, "vmlinuz"), filepath.Join(b.Dir, "whole.initrd"), guestfiles.FirstInit
	return true, os.WriteFile(d.Initrd, append(initrd, first...), 0o644)
}

func (b *bench) besideDisk(vm string) error {
	return b.Contest(fileRows("the guest's own disk"), b.files(vm, "/virtiofs/own"), b.files(vm, "/var/tmp/own"))
}

// beside9p mounts the folder by 9p with the largest messages that its driver makes (msize, 512
// KB; fs/9p warns of the default, 128 KB).
func (b *bench) beside9p(vm string) error {
	mount := "mkdir -p /9p && mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 " + p9 + " /9p"
	if _, err := rig.Run(b.Qnet, "exec", vm, "--", "sudo", "sh", "-c", mount); err != nil {
		return err
	}
	return b.Contest(fileRows("9p"), b.files(vm, "/virtiofs/own"), b.files(vm, "/9p/9p"))
}

// fileRows are what filesScript prints.
func fileRows(against string) []contest.Row {
	return []contest.Row{
		{What: "shared folder: a file of 64 MiB written", Against: against, Unit: "MB/s"},
		{What: "shared folder: the file read", Against: against, Unit: "MB/s"},
		{What: "shared folder: 500 files of 4 KiB made, read and removed", Against: against, Unit: "files/s"},
	}
}

// files runs filesScript in a folder of the guest, as root.
func (b *bench) files(vm, folder string) contest.Side {
	return func() ([]float64, error) {
		return rig.Figures(b.Qnet, "exec", vm, "--", "sudo", "python3", "-c", filesScript, folder)
	}
}
